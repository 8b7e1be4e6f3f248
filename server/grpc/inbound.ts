import { constants, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2'
import { promisify } from 'node:util'
import { gunzip, inflate } from 'node:zlib'
import type { Metadata, ServerInterceptingCall, ServerInterceptor } from '@grpc/grpc-js'
import { Failure } from '../../wire/failure.js'
import { ChunkAssembler } from '../../wire/framing/chunk-assembler.js'
import { Pieces } from '../../wire/framing/protobuf.js'
import { MAX_TIMER_MS } from '../../wire/protocol.js'
import type { Authentication } from '../auth/authentication.js'
import type { Caller, EndableCall } from '../auth/identity.js'
import {
  type CallMemory,
  type ConnectionAccounts,
  cutOff,
  heldTooMuch,
  UNSENT_COPIES,
} from '../limits/memory-budget.js'
import { deadlineOf } from './call-headers.js'

/**
 * Counts the memory of each call between the network and its handler, and refuses what the budget cannot hold. It also
 * handles large messages better than grpc-js: they are assembled while they arrive, and sent in pieces. It hooks into the
 * objects that grpc-js makes for a call, because interceptors see messages only after they have arrived and were
 * unpacked. Everything private that it touches is declared in these two interfaces, and checked before use.
 */
interface GrpcCallInternals {
  readonly stream: ServerHttp2Stream
  /** The handler gets the same object. */
  readonly metadata: Metadata
  readonly incomingEncoding: string
  readonly decoder: Deframer
  decompressMessage(message: Buffer, encoding: string): Buffer | Promise<Buffer>
  getDeadline(): number
  /** Encodes a message and puts the prefix in front of it. */
  serializeMessage(message: unknown): Buffer
  /** Writes to the stream what serializeMessage returns, unless the call is cancelled. */
  sendMessage(message: unknown, callback: () => void): void
  sendStatus(status: object): void
}

/** The part of grpc-js that splits bytes into messages. A message is handed on with its prefix. */
interface Deframer {
  /** Pieces of the message that has not arrived completely. */
  readPartialMessage: Buffer[]
  readState: number
  readonly readCompressFlag: Buffer
  readonly readPartialSize: Buffer
  readonly readMessageSize: number
  readonly readMessageRemaining: number
  write(data: Buffer): Buffer[]
}

/** States of the deframer: between two messages, and behind the prefix of a message. */
const NO_DATA = 0
const READING_MESSAGE = 2

/** In front of each message: a compression flag, and the length in four bytes. */
const MESSAGE_PREFIX_BYTES = 5

/** If the pieces of a message are smaller than PIECE_BYTES on average, PIECES of them at a time are joined: each costs 130 bytes. */
const PIECES = 512
const PIECE_BYTES = 1_024

/** Messages that are unpacked at once: as many as Node's thread pool has threads. Each is bounded by the message limit. */
const MAX_UNPACKING = 4

/** zlib makes its output in steps of this size at most; with small steps, a large message is mostly garbage. */
const MAX_UNPACK_STEP_BYTES = 256 * 1024

/** A stream whose deadline has passed or whose token was revoked, and that does not close, is reset after this time. */
const RESET_MS = 1_000

/** What the end of an answer counts as until its stream is closed. */
const END_BYTES = 64

const unpackers = { gzip: promisify(gunzip), deflate: promisify(inflate) } as const

export class InboundMemory {
  readonly #calls = new WeakMap<Uint8Array, CallMemory>()
  readonly #callers = new WeakMap<Metadata, Caller>()
  readonly #unpacking = new Turnstile(MAX_UNPACKING)

  /** @param statusOf converts a failure into the status object that grpc-js sends. */
  constructor(
    private readonly maxMessageBytes: number,
    private readonly connections: ConnectionAccounts,
    private readonly authentication: Authentication,
    private readonly statusOf: (failure: Failure) => object,
  ) {}

  /** To be passed to grpc-js's Server in its option `interceptors`. */
  readonly interceptor: ServerInterceptor = ({ requestStream, responseStream }, call) => {
    // The object that grpc-js passes and expects back; its type hides what it is.
    const same = call as ServerInterceptingCall
    const internals: Partial<GrpcCallInternals> = call as unknown as GrpcCallInternals
    const session = internals.stream?.session as ServerHttp2Session | undefined
    if (!session || !isAsExpected(internals)) return same
    const account = this.connections.of(session)
    const caller = this.authentication.callerOf(internals.stream, account)
    this.#callers.set(internals.metadata, caller)
    internals.getDeadline = () => deadlineOf(internals.stream)
    if (requestStream || responseStream) atDeadline(internals.stream, RESET_MS, () => reset(internals.stream))
    if (account.isOver) {
      internals.sendStatus(this.statusOf(heldTooMuch()))
      return same
    }
    const memory = this.connections.openCall(account, internals.stream)
    // Once a handler has the message, it watches the deadline itself (adapter.ts).
    if (!requestStream) {
      atDeadline(internals.stream, 0, () => memory.isTaken || internals.sendStatus(this.statusOf(lateRequest())))
    }
    this.#countRequest(internals, memory, requestStream)
    this.#endWhenRevoked(internals, memory, caller)
    // The adapter counts the messages of a response stream, where it writes them.
    if (responseStream) sendInPieces(internals)
    else countResponse(internals, memory)
    countEnd(internals, memory)
    return same
  }

  /** Who makes the call with this metadata. */
  callerOf(metadata: Metadata): Caller {
    return this.#callers.get(metadata) ?? this.authentication.unknown(this.connections.none())
  }

  /**
   * A handler has received this message.
   * @param isOnly the call has no other. It then counts until the call ends; one of many is counted by its handler.
   */
  taken(message: Uint8Array, isOnly: boolean): void {
    const memory = this.#calls.get(message)
    if (!memory) return
    memory.isTaken = true
    if (!isOnly) memory.add(-message.length - MESSAGE_PREFIX_BYTES)
  }

  /** Once a handler of ours has a message, it ends the call itself (adapter.ts). Those of libraries know of no tokens. */
  #endWhenRevoked(internals: GrpcCallInternals, memory: CallMemory, { credential }: Caller): void {
    if (!credential.isRevocable) return
    const { stream } = internals
    const call: EndableCall = {
      end: (reason) => {
        if (memory.isTaken) return
        internals.sendStatus(this.statusOf(reason))
        // Its client may keep its side open.
        setTimeout(() => reset(stream), RESET_MS).unref()
      },
    }
    credential.add(call)
    stream.once('close', () => credential.remove(call))
  }

  #countRequest(internals: GrpcCallInternals, memory: CallMemory, isStream: boolean): void {
    const { decoder, decompressMessage } = internals
    const refuse = (): Buffer[] => {
      internals.sendStatus(this.statusOf(isStream ? cutOff() : heldTooMuch()))
      // What has arrived of the message is needed no more, though the client may keep its stream open.
      decoder.write = () => []
      decoder.readPartialMessage = []
      memory.drop()
      return []
    }
    const write = deframe(decoder, memory, refuse)
    decoder.write = (data) => {
      memory.add(data.length)
      return memory.account.isOver ? refuse() : write(data)
    }
    internals.decompressMessage = (message, encoding) => {
      if (encoding === 'gzip' || encoding === 'deflate') {
        return this.#unpack(encoding, message.subarray(MESSAGE_PREFIX_BYTES), memory)
      }
      const content = decompressMessage.call(internals, message, encoding)
      if (content instanceof Uint8Array) this.#calls.set(content, memory)
      return content
    }
  }

  /** Unpacks a compressed message, unless its call has ended, or its client holds too much, by the time it gets its turn. */
  async #unpack(encoding: 'gzip' | 'deflate', packed: Buffer, memory: CallMemory): Promise<Buffer> {
    await this.#unpacking.enter()
    try {
      if (memory.isClosed) throw new Failure('CANCELLED', 'the client is gone')
      if (memory.account.isOver) throw heldTooMuch()
      const message = await unpackers[encoding](packed, {
        maxOutputLength: this.maxMessageBytes,
        chunkSize: Math.min(MAX_UNPACK_STEP_BYTES, 8 * packed.length + 64),
      })
      memory.add(message.length - packed.length)
      this.#calls.set(message, memory)
      return message
    } catch (error) {
      throw this.statusOf(error instanceof Failure ? error : this.#unpackFailure(error as NodeJS.ErrnoException))
    } finally {
      this.#unpacking.leave()
    }
  }

  #unpackFailure({ code, message }: NodeJS.ErrnoException): Failure {
    return code === 'ERR_BUFFER_TOO_LARGE'
      ? new Failure('PAYLOAD_TOO_LARGE', `the request takes more than ${this.maxMessageBytes} bytes unpacked`)
      : new Failure('BAD_REQUEST', `the request cannot be unpacked: ${message}`)
  }
}

/** Lets in a limited number at once, in the order in which they came. */
class Turnstile {
  readonly #waiting: (() => void)[] = []
  #inside = 0

  constructor(private readonly most: number) {}

  async enter(): Promise<void> {
    if (this.#inside < this.most) this.#inside++
    else await new Promise<void>((resolve) => this.#waiting.push(resolve))
  }

  /** Its place goes to the next, if there is one. */
  leave(): void {
    const next = this.#waiting.shift()
    if (next) next()
    else this.#inside--
  }
}

const lateRequest = (): Failure =>
  new Failure('TASK_TIMEOUT', "the call's deadline passed before its request had come", {
    started: false,
    metadata: { limit: 'timeout', phase: 'queued' },
  })

/** Calls back this many milliseconds after a call's deadline, unless its stream has closed by then. */
function atDeadline(stream: ServerHttp2Stream, delayMs: number, late: () => void): void {
  const left = deadlineOf(stream) - Date.now() + delayMs
  if (left > MAX_TIMER_MS) return
  const timer = setTimeout(late, left)
  stream.once('close', () => clearTimeout(timer))
}

/** The end of a stream waits behind data that its client does not read, so without a reset it would stay open for ever. */
const reset = (stream: ServerHttp2Stream): void => stream.close(constants.NGHTTP2_CANCEL)

const isAsExpected = (internals: Partial<GrpcCallInternals>): internals is GrpcCallInternals =>
  internals.metadata !== undefined &&
  isDeframer(internals.decoder) &&
  [internals.decompressMessage, internals.serializeMessage, internals.sendMessage, internals.sendStatus].every(
    (method) => typeof method === 'function',
  )

const isDeframer = (decoder: Partial<Deframer> | undefined): decoder is Deframer =>
  typeof decoder?.write === 'function' &&
  Array.isArray(decoder.readPartialMessage) &&
  [decoder.readState, decoder.readMessageSize, decoder.readMessageRemaining].every(Number.isInteger) &&
  [decoder.readCompressFlag, decoder.readPartialSize].every(Buffer.isBuffer)

/**
 * A replacement for the deframer's `write`. It assembles large messages while they arrive (joining 70 MB at the end
 * would hold the event loop for 60 ms), and joins small pieces, because each piece costs memory of its own.
 * @param memory counts what has arrived, and the rest of a large message once there is a buffer for it.
 * @param refuse ends the call before there is one.
 */
function deframe(decoder: Deframer, memory: CallMemory, refuse: () => Buffer[]): (data: Buffer) => Buffer[] {
  const { write } = Object.getPrototypeOf(decoder) as Deframer
  let large: ChunkAssembler | undefined
  return function next(data: Buffer): Buffer[] {
    if (!large) {
      const messages = write.call(decoder, data)
      if (!isLarge(decoder)) joinSmallPieces(decoder)
      else {
        memory.add(decoder.readMessageRemaining)
        if (memory.account.isOver) return refuse()
        large = takeOver(decoder)
      }
      return messages
    }
    const rest = large.fill(data)
    memory.add((rest?.length ?? 0) - data.length)
    if (!rest) return []
    const message = large.take()
    large = undefined
    decoder.readState = NO_DATA
    return rest.length === 0 ? [message] : [message, ...next(rest)]
  }
}

/** Enough of a large message has arrived to make a buffer of its full size worthwhile. */
const isLarge = ({ readState, readMessageSize: size, readMessageRemaining: remaining }: Deframer): boolean =>
  readState === READING_MESSAGE && ChunkAssembler.isEnough(size - remaining, size)

function takeOver(decoder: Deframer): ChunkAssembler {
  const large = new ChunkAssembler(decoder.readMessageSize + MESSAGE_PREFIX_BYTES)
  for (const piece of [decoder.readCompressFlag, decoder.readPartialSize, ...decoder.readPartialMessage]) {
    large.add(piece)
  }
  decoder.readPartialMessage = []
  return large
}

/** Pieces of each unfinished message that have been looked at. */
const checked = new WeakMap<Buffer[], number>()

/** Copies each byte at most once. */
function joinSmallPieces({ readPartialMessage: pieces }: Deframer): void {
  if (pieces.length < PIECES) return
  const first = checked.get(pieces) ?? 0
  if (pieces.length - first < PIECES) return
  const recent = pieces.slice(first)
  const isSmall = recent.reduce((sum, piece) => sum + piece.length, 0) < recent.length * PIECE_BYTES
  if (isSmall) pieces.splice(first, recent.length, Buffer.concat(recent))
  checked.set(pieces, pieces.length)
}

/**
 * Writes the pieces of a message to the HTTP/2 stream as they are. grpc-js copies a message behind its prefix, and the pieces
 * would be joined before: two copies and two new buffers for each large result, and the garbage collector starts for these.
 */
function sendInPieces(internals: GrpcCallInternals): void {
  const { stream, serializeMessage, sendMessage } = internals
  /** The message that is being sent, without its first piece. */
  let rest: Uint8Array[] = []
  internals.serializeMessage = (message) => {
    if (!isInPieces(message)) return serializeMessage.call(internals, message)
    const [first, ...others] = message.pieces
    rest = others
    return withPrefix(message.length, first)
  }
  internals.sendMessage = (message, callback) => {
    if (!isInPieces(message)) return sendMessage.call(internals, message, callback)
    // Corked, the pieces are one write of the stream, and the callback comes at the end of it.
    stream.cork()
    sendMessage.call(internals, message, callback)
    for (const piece of rest.splice(0)) stream.write(piece)
    stream.uncork()
  }
}

const isInPieces = (message: unknown): message is Pieces => message instanceof Pieces && message.pieces.length > 1

function withPrefix(length: number, first: Uint8Array = new Uint8Array()): Buffer {
  const prefixed = Buffer.allocUnsafe(MESSAGE_PREFIX_BYTES + first.length)
  prefixed.writeUInt8(0)
  prefixed.writeUInt32BE(length, 1)
  prefixed.set(first, MESSAGE_PREFIX_BYTES)
  return prefixed
}

/** The end of an answer has not been read until its stream is closed. A server that drains waits for that. */
function countEnd(internals: GrpcCallInternals, memory: CallMemory): void {
  const { sendStatus } = internals
  internals.sendStatus = (status) => {
    memory.addUnread(END_BYTES)
    sendStatus.call(internals, status)
  }
}

/** Counts a single response from its write until it is sent. */
function countResponse(internals: GrpcCallInternals, memory: CallMemory): void {
  const { sendMessage } = internals
  internals.sendMessage = (message, callback) => {
    const bytes = message instanceof Uint8Array ? UNSENT_COPIES * message.length : 0
    memory.addUnread(bytes)
    sendMessage.call(internals, message, () => {
      memory.addUnread(-bytes)
      callback()
    })
  }
}
