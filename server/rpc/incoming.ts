import type { EventEmitter } from 'node:events'
import { createGunzip, createInflate } from 'node:zlib'
import type { ServerInterceptingCall, ServerInterceptor } from '@grpc/grpc-js'
import { Failure } from '../../wire/failure.js'
import { INFLATED_BYTES, PIECE_BYTES, PIECES, RETRY_MS } from '../../wire/limits.js'

/** What we touch of a call of grpc-js beside its public side: the one place, looked at before it is used. */
interface Inside {
  readonly stream: EventEmitter
  readonly incomingEncoding: string
  readonly decoder: Decoder
  decompressMessage(message: Buffer, encoding: string): Buffer | Promise<Buffer>
}

/** Cuts what comes into messages. */
interface Decoder {
  /** Of the message that has not come whole. */
  readonly readPartialMessage: Buffer[]
  write(data: Buffer): Buffer[]
}

/** What one call has unpacked that no handler has. */
interface Held {
  bytes: number
  gone: boolean
}

/**
 * Bounds what a message takes of memory between the network and its handler, in proportion to what was sent:
 * compressed ones grow a thousandfold, and one that comes byte by byte is a hundred bytes for each. grpc-js holds every
 * message of every stream to the largest size, and knows nothing of all together.
 */
export class Incoming {
  /** Unpacked, and not yet with a handler. */
  #bytes = 0
  readonly #releases = new WeakMap<Uint8Array, () => void>()

  /** @param statusOf makes a failure what grpc-js sends. */
  constructor(
    private readonly maxMessageBytes: number,
    private readonly statusOf: (failure: Failure) => object,
  ) {}

  /** For the option of a server; costs a call nothing to speak of. */
  readonly interceptor: ServerInterceptor = (_, call) => {
    const inside = call as unknown as Partial<Inside>
    if (typeof inside.decoder?.write === 'function' && Array.isArray(inside.decoder.readPartialMessage)) {
      inside.decoder.write = writeInLargePieces
    }
    const { stream, incomingEncoding, decompressMessage } = inside
    if (stream && incomingEncoding && incomingEncoding !== 'identity' && decompressMessage) {
      const own: Held = { bytes: 0, gone: false }
      stream.once('close', () => {
        own.gone = true
        this.#release(own, own.bytes)
      })
      inside.decompressMessage = (message, encoding) => {
        const unpacker = encoding === 'gzip' ? createGunzip : encoding === 'deflate' ? createInflate : undefined
        return unpacker
          ? this.#unpack(unpacker(), message.subarray(5), own)
          : decompressMessage.call(call, message, encoding)
      }
    }
    // As it came, which is what grpc-js works with where there are no interceptors.
    return call as ServerInterceptingCall
  }

  /** A handler has the message: what it holds from now on is counted where calls are. */
  taken(message: Uint8Array): void {
    this.#releases.get(message)?.()
  }

  async #unpack(unpacker: ReturnType<typeof createGunzip>, packed: Buffer, own: Held): Promise<Buffer> {
    const parts: Buffer[] = []
    let length = 0
    try {
      unpacker.end(packed)
      for await (const part of unpacker as AsyncIterable<Buffer>) {
        if (own.gone) throw new Failure('CANCELLED', 'the client is gone')
        parts.push(part)
        length += part.length
        own.bytes += part.length
        this.#bytes += part.length
        if (length > this.maxMessageBytes) {
          throw new Failure('PAYLOAD_TOO_LARGE', `the request takes more than ${this.maxMessageBytes} bytes unpacked`)
        }
        if (this.#bytes > Math.max(INFLATED_BYTES, this.maxMessageBytes)) {
          throw new Failure('QUEUE_FULL', 'too many compressed messages at once; send it again, or uncompressed', {
            retryDelayMs: RETRY_MS,
          })
        }
      }
    } catch (error) {
      this.#release(own, length)
      // What the peer packed is no fault of ours.
      const why = error instanceof Error ? error.message : String(error)
      throw this.statusOf(
        error instanceof Failure ? error : new Failure('BAD_REQUEST', `the request cannot be unpacked: ${why}`),
      )
    }
    const message = Buffer.concat(parts)
    this.#releases.set(message, () => {
      this.#releases.delete(message)
      this.#release(own, length)
    })
    return message
  }

  #release(own: Held, bytes: number): void {
    const released = Math.min(own.bytes, bytes)
    own.bytes -= released
    this.#bytes -= released
  }
}

/** How many of the pieces of a message need no further look. */
const looked = new WeakMap<Buffer[], number>()

/** Joins small pieces, so many at a time that each byte is copied once. */
function writeInLargePieces(this: Decoder, data: Buffer): Buffer[] {
  const messages = Object.getPrototypeOf(this).write.call(this, data)
  const pieces = this.readPartialMessage
  if (pieces.length < PIECES) return messages
  const first = looked.get(pieces) ?? 0
  if (pieces.length - first < PIECES) return messages
  const recent = pieces.slice(first)
  const small = recent.reduce((sum, piece) => sum + piece.length, 0) < recent.length * PIECE_BYTES
  if (small) pieces.splice(first, recent.length, Buffer.concat(recent))
  looked.set(pieces, pieces.length)
  return messages
}
