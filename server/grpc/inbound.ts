import { constants, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2'
import { createGunzip, createInflate } from 'node:zlib'
import type { ServerInterceptingCall, ServerInterceptor } from '@grpc/grpc-js'
import { LinesInTurn } from '../../pool/process/spawn-throttle.js'
import { Failure } from '../../wire/failure.js'
import { ChunkAssembler, LARGE_BYTES } from '../../wire/framing/chunk-assembler.js'
import { MAX_TIMER_MS, RETRY_MS } from '../../wire/protocol.js'
import { once } from '../api/once.js'
import {
  type Account,
  type Connections,
  cutOff,
  type HeldCall,
  heldTooMuch,
  UNSENT_COPIES,
} from '../limits/memory-budget.js'
import { deadlineOf } from './call-headers.js'

/** A stream whose deadline has passed and whose end is not read is reset after so long. */
const RESET_MS = 1_000

/** What stands in front of each message in a stream: a flag and a length. */
const MESSAGE_PREFIX_BYTES = 5

/**
 * What compressed messages of all clients take while they are unpacked and until their handlers have them. gzip packs
 * a thousand to one: 100 messages of 72 KiB would be 7 GiB. Never less than one message may take.
 */
const UNPACKED_BYTES = 128 * 1024 * 1024

/** What the end of an answer counts until its stream is closed. */
const END_BYTES = 64

/** A message that comes in pieces of less than PIECE_BYTES on average is joined, so many pieces at a time: each costs 130 bytes. */
const PIECES = 512
const PIECE_BYTES = 1_024

/** What cuts what comes into messages, in grpc-js: what we touch of it. A message has its prefix before it. */
export interface Decoder {
  /** Of the message that has not come whole. */
  readPartialMessage: Buffer[]
  readState: number
  readonly readCompressFlag: Buffer
  readonly readPartialSize: Buffer
  readonly readMessageSize: number
  readonly readMessageRemaining: number
  write(data: Buffer): Buffer[]
}

/** Its states: between two messages, and behind the prefix of one. */
const NO_DATA = 0
const READING_MESSAGE = 2

/** One that is built otherwise is left as it is. */
export const isDecoder = (decoder: Partial<Decoder> | undefined): decoder is Decoder =>
  typeof decoder?.write === 'function' &&
  Array.isArray(decoder.readPartialMessage) &&
  [decoder.readState, decoder.readMessageSize, decoder.readMessageRemaining].every(Number.isInteger) &&
  [decoder.readCompressFlag, decoder.readPartialSize].every(Buffer.isBuffer)

/** What its `write` does, with large messages joined as they come, and small pieces joined so many at a time. */
export function messagesOf(decoder: Decoder): (data: Buffer) => Buffer[] {
  const { write } = Object.getPrototypeOf(decoder) as Decoder
  let large: ChunkAssembler | undefined
  return function messages(data: Buffer): Buffer[] {
    if (!large) {
      const whole = write.call(decoder, data)
      large = largeOf(decoder)
      if (!large) joinSmallPieces(decoder)
      return whole
    }
    const rest = large.fill(data)
    if (!rest) return []
    const message = large.take()
    large = undefined
    decoder.readState = NO_DATA
    return rest.length === 0 ? [message] : [message, ...messages(rest)]
  }
}

/** Takes over a large message of which enough has come; until then it may come byte by byte. */
function largeOf(decoder: Decoder): ChunkAssembler | undefined {
  const { readState, readMessageSize: size, readMessageRemaining: remaining } = decoder
  if (readState !== READING_MESSAGE || !ChunkAssembler.isEnough(size - remaining, size)) return undefined
  const large = new ChunkAssembler(size + MESSAGE_PREFIX_BYTES)
  for (const piece of [decoder.readCompressFlag, decoder.readPartialSize, ...decoder.readPartialMessage])
    large.add(piece)
  decoder.readPartialMessage = []
  return large
}

/** How many of the pieces of a message need no further look. */
const looked = new WeakMap<Buffer[], number>()

/** Each byte is copied once. */
function joinSmallPieces({ readPartialMessage: pieces }: Decoder): void {
  if (pieces.length < PIECES) return
  const first = looked.get(pieces) ?? 0
  if (pieces.length - first < PIECES) return
  const recent = pieces.slice(first)
  const small = recent.reduce((sum, piece) => sum + piece.length, 0) < recent.length * PIECE_BYTES
  if (small) pieces.splice(first, recent.length, Buffer.concat(recent))
  looked.set(pieces, pieces.length)
}

/** What one may do at a time; of those who wait for it clients take turns. */
export class OneAtATime {
  #isTaken = false
  readonly #lines = new LinesInTurn<() => void>()

  /** Resolves when it is the caller's turn, with what ends that. */
  async enter(client: object): Promise<() => void> {
    if (this.#isTaken) await new Promise<void>((resolve) => this.#lines.enter(client, resolve))
    this.#isTaken = true
    return once(() => this.#leave())
  }

  #leave(): void {
    const next = this.#lines.take()
    this.#isTaken = next !== undefined
    next?.()
  }
}

/** What compressed messages take from being unpacked until their handlers have them, by client. */
export class Unpacked {
  readonly #by = new Map<Account, number>()
  #all = 0

  constructor(private readonly limitBytes: number) {}

  /** More bytes, or fewer where negative. */
  add(client: Account, bytes: number): void {
    this.#all += bytes
    const own = (this.#by.get(client) ?? 0) + bytes
    if (own === 0) this.#by.delete(client)
    else this.#by.set(client, own)
  }

  /** All take too much, and this one not less than its part; or far too much. */
  isOver(client: Account): boolean {
    if (this.#all <= this.limitBytes) return false
    return (this.#by.get(client) ?? 0) > this.limitBytes / this.#by.size || this.#all > 2 * this.limitBytes
  }
}

/** What we touch of a call of grpc-js beside its public side: the one place, looked at before it is used. */
interface Inside {
  readonly stream: ServerHttp2Stream
  readonly incomingEncoding: string
  readonly decoder: Decoder
  decompressMessage(message: Buffer, encoding: string): Buffer | Promise<Buffer>
  getPeer(): string
  getDeadline(): number
  sendMessage(message: unknown, callback: () => void): void
  sendStatus(status: object): void
}

/**
 * Bounds what a call takes of memory between the network and its handler, and behind it. What has come and what has not
 * been sent is counted (budget.ts). Of what comes, two things cost more than was sent: compressed messages grow a
 * thousandfold, and one that comes byte by byte takes a hundred bytes for each. grpc-js holds every message of every
 * stream to the largest size, and knows nothing of all together.
 */
export class Incoming {
  readonly #unpacked: Unpacked
  /** What takes long to unpack takes threads of its own, and the event loop its CPU: not more than one at a time. */
  readonly #largeOnes = new OneAtATime()
  readonly #releases = new WeakMap<Uint8Array, () => void>()
  readonly #calls = new WeakMap<Uint8Array, HeldCall>()

  /** @param statusOf makes a failure what grpc-js sends. */
  constructor(
    private readonly maxMessageBytes: number,
    private readonly connections: Connections,
    private readonly statusOf: (failure: Failure) => object,
  ) {
    this.#unpacked = new Unpacked(Math.max(UNPACKED_BYTES, maxMessageBytes))
  }

  /** For the option of a server; costs a call nothing to speak of. */
  readonly interceptor: ServerInterceptor = ({ requestStream, responseStream }, call) => {
    // As it came, which is what grpc-js works with where there are no interceptors.
    const same = call as ServerInterceptingCall
    const inside: Partial<Inside> = call as unknown as Inside
    const session = inside.stream?.session as ServerHttp2Session | undefined
    if (!session || !isAsWeKnowIt(inside)) return same
    const { peer, account } = this.connections.of(session)
    inside.getPeer = () => peer
    inside.getDeadline = () => deadlineOf(inside.stream)
    if (requestStream || responseStream) atDeadline(inside.stream, RESET_MS, () => reset(inside.stream))
    if (account.isOver) {
      inside.sendStatus(this.statusOf(heldTooMuch()))
      return same
    }
    const held = this.connections.begin(account, inside.stream)
    // A handler sees to it itself (call.ts); one that waits for its message has not begun.
    if (!requestStream) {
      atDeadline(inside.stream, 0, () => held.isTaken || inside.sendStatus(this.statusOf(lateRequest())))
    }
    this.#countMessages(inside, held, requestStream)
    // Those of a stream are counted where they are written (call.ts).
    if (!responseStream) countAnswer(inside, held)
    countEnd(inside, held)
    return same
  }

  /**
   * A handler has the message. The only one of its call counts until the call has ended; of one of many, what it goes on to
   * hold is counted where calls are (calls.ts).
   */
  taken(message: Uint8Array, isOnly: boolean): void {
    this.#releases.get(message)?.()
    const held = this.#calls.get(message)
    if (!held) return
    held.isTaken = true
    if (!isOnly) held.add(-message.length - MESSAGE_PREFIX_BYTES)
  }

  #countMessages(inside: Inside, held: HeldCall, isStream: boolean): void {
    const { decoder, decompressMessage } = inside
    const write = messagesOf(decoder)
    decoder.write = (data) => {
      held.add(data.length)
      if (!held.account.isOver) return write(data)
      inside.sendStatus(this.statusOf(isStream ? cutOff() : heldTooMuch()))
      return []
    }
    inside.decompressMessage = (message, encoding) => {
      const isPacked = encoding === 'gzip' || encoding === 'deflate'
      if (isPacked) return this.#unpack(encoding, message.subarray(MESSAGE_PREFIX_BYTES), held)
      const content = decompressMessage.call(inside, message, encoding)
      if (content instanceof Uint8Array) this.#calls.set(content, held)
      return content
    }
  }

  async #unpack(encoding: 'gzip' | 'deflate', packed: Buffer, held: HeldCall): Promise<Buffer> {
    // The event loop has to do with each piece: a bomb would come in thousands.
    const chunkSize = Math.min(LARGE_BYTES, Math.max(UNPACKED_PIECE_BYTES, UNPACKED_TIMES * packed.length))
    const unpacker = encoding === 'gzip' ? createGunzip({ chunkSize }) : createInflate({ chunkSize })
    const parts = new ChunkAssembler(encoding === 'gzip' ? sizeOfGzip(packed, this.maxMessageBytes) : 0)
    let length = 0
    let leave: (() => void) | undefined
    const { account } = held
    const release = once(() => this.#unpacked.add(account, -length))
    try {
      unpacker.end(packed)
      for await (const part of unpacker as AsyncIterable<Buffer>) {
        if (length > LARGE_BYTES) leave ??= await this.#largeOnes.enter(account)
        if (held.isGone) throw new Failure('CANCELLED', 'the client is gone')
        parts.add(part)
        length += part.length
        this.#unpacked.add(account, part.length)
        held.add(part.length)
        if (length > this.maxMessageBytes) {
          throw new Failure('PAYLOAD_TOO_LARGE', `the request takes more than ${this.maxMessageBytes} bytes unpacked`)
        }
        if (account.isOver) throw heldTooMuch()
        if (this.#unpacked.isOver(account)) {
          throw new Failure('QUEUE_FULL', 'too many compressed messages at once; send it again, or uncompressed', {
            retryDelayMs: RETRY_MS,
          })
        }
      }
    } catch (error) {
      release()
      // What the peer packed is no fault of ours.
      const why = error instanceof Error ? error.message : String(error)
      throw this.statusOf(
        error instanceof Failure ? error : new Failure('BAD_REQUEST', `the request cannot be unpacked: ${why}`),
      )
    } finally {
      leave?.()
    }
    const message = parts.take()
    held.add(-packed.length)
    this.#calls.set(message, held)
    this.#releases.set(message, release)
    held.onClose(release)
    return message
  }
}

/** How much is unpacked in one go, at least: Node's own default, and so many times what came. */
const UNPACKED_PIECE_BYTES = 16 * 1024
const UNPACKED_TIMES = 8

/** What its last four bytes say that it takes unpacked; 0 where that cannot be. */
function sizeOfGzip(packed: Buffer, most: number): number {
  const size = packed.length < 4 ? 0 : packed.readUInt32LE(packed.length - 4)
  return size <= most ? size : 0
}

const lateRequest = (): Failure =>
  new Failure('TASK_TIMEOUT', "the call's deadline passed before its request had come", { started: false })

/** Calls back so many milliseconds behind a call's deadline, unless its stream has been closed by then. */
function atDeadline(stream: ServerHttp2Stream, delayMs: number, late: () => void): void {
  const left = deadlineOf(stream) - Date.now() + delayMs
  if (left > MAX_TIMER_MS) return
  const timer = setTimeout(late, left)
  stream.once('close', () => clearTimeout(timer))
}

/** The end of a stream stands behind what its client does not read: it would keep its place for ever. */
const reset = (stream: ServerHttp2Stream): void => stream.close(constants.NGHTTP2_CANCEL)

/** A grpc-js that is built otherwise is left as it is. */
const isAsWeKnowIt = (inside: Partial<Inside>): inside is Inside =>
  isDecoder(inside.decoder) &&
  [inside.decompressMessage, inside.sendMessage, inside.sendStatus].every((method) => typeof method === 'function')

/** The end of an answer has not been read as long as its stream is not closed: a server that drains waits for that. */
function countEnd(inside: Inside, held: HeldCall): void {
  const { sendStatus } = inside
  inside.sendStatus = (status) => {
    held.addUnread(END_BYTES)
    sendStatus.call(inside, status)
  }
}

/** An answer that is written and not sent. */
function countAnswer(inside: Inside, held: HeldCall): void {
  const { sendMessage } = inside
  inside.sendMessage = (message, callback) => {
    const bytes = message instanceof Uint8Array ? UNSENT_COPIES * message.length : 0
    held.addUnread(bytes)
    sendMessage.call(inside, message, () => {
      held.addUnread(-bytes)
      callback()
    })
  }
}
