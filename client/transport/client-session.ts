import { randomUUID } from 'node:crypto'
import type { ServiceError } from '@grpc/grpc-js'
import { CallRequest, CallResponse, type ItemFailure } from '../../proto/gen/farpool/routing/v1/routing.js'
import { OnError } from '../../proto/gen/farpool/v1/pool_service.js'
import { asFailure, Failure, statusToFailure } from '../../wire/failure.js'
import { CallRequestWriter, type GroupHead, readOutcomes } from '../../wire/framing/call-codec.js'
import {
  ACK_BYTES,
  ACK_MESSAGES,
  FRAME_CALLS,
  FRAME_TARGET_BYTES,
  MAX_FIELDS,
  RESUME_MS,
  UNSENT_BYTES,
} from '../../wire/protocol.js'
import { failureOf } from './grpc-status.js'
import { type ChunkFailure, type FunctionCall, NO_OUTCOME, type Sink } from './transport.js'
import type { CallStream } from './unary-transport.js'

/** A client ends its stream of calls when it has had none for so long: an open stream would keep its process alive. */
const STREAM_IDLE_MS = 500

/** What a call has in common with others of its kind. */
export const headOf = (call: FunctionCall, args: readonly Uint8Array[]): GroupHead => ({
  pool: call.pool,
  function: call.function,
  args: args as Uint8Array[],
  kwargs: call.kwargs,
  replyKind: call.replyKind,
  retries: call.retries,
  queueTimeoutMs: call.queueTimeoutMs,
  runTimeoutMs: call.runTimeoutMs,
  spread: false,
  onError: OnError.ON_ERROR_UNSPECIFIED,
  timeoutMs: call.deadline === undefined ? 0 : Math.max(1, Math.ceil(call.deadline - Date.now())),
})

/** Whether calls of these groups can share one. Bound values are compared by identity. */
export const isSame = (a: GroupHead, b: GroupHead): boolean =>
  a === b ||
  (a.function === b.function &&
    a.pool === b.pool &&
    a.args.length === 0 &&
    b.args.length === 0 &&
    a.kwargs === b.kwargs &&
    a.replyKind === b.replyKind &&
    a.retries === b.retries &&
    a.queueTimeoutMs === b.queueTimeoutMs &&
    a.runTimeoutMs === b.runTimeoutMs &&
    a.spread === b.spread &&
    a.onError === b.onError &&
    a.timeoutMs === b.timeoutMs)

/** Larger ones wait until the server has said how large a message may be: one that is too large would end them all. */
const LARGE_BYTES = 2 * 1024 * 1024

/** Calls and cancellations in one message. */
interface Message {
  readonly bytes: Buffer
  /** Of its calls, and of those before: an id that is larger has not left. */
  readonly lastId: number
  /** A large call is the only one of its message. */
  readonly onlyId: number | undefined
}

/**
 * What a session has to say: filled into messages, written as fast as its stream takes them, and kept until the server has
 * confirmed them.
 *
 *   message (being filled) ─▶ waiting ─▶ stream, unconfirmed ─▶ confirmed
 *                                ▲              │
 *                                └── greeted ───┘  a new stream
 */
export class Outbox {
  #message: CallRequestWriter | undefined
  #lastId = 0
  #waiting: Message[] = []
  #unconfirmed: Message[] = []
  #confirmed = 0
  #writtenId = 0
  /** Written to the current stream, and not sent. */
  #unsent = 0
  #stream: CallStream | undefined
  #maxBytes: number | undefined

  /** @param refused is told of a call that no message can carry. */
  constructor(
    private readonly flush: () => void,
    private readonly refused: (id: number, reason: Failure) => void,
  ) {}

  /** An id that is larger has not left. */
  get writtenId(): number {
    return this.#writtenId
  }

  /** The stream has enough for now, or there is none. */
  get isBlocked(): boolean {
    return this.#stream === undefined || this.#stream.writableNeedDrain || this.#unsent >= UNSENT_BYTES
  }

  /** There is something that has not been written. */
  get isWaiting(): boolean {
    return this.#message !== undefined || this.#waiting.length > 0
  }

  /** There is something that the server may not have heard. */
  get isUnheard(): boolean {
    return this.isWaiting || this.#unconfirmed.length > 0
  }

  add(head: GroupHead, id: number, args: readonly Uint8Array[], chunk: Uint8Array | undefined): void {
    this.#lastId = id
    if (args.length > MAX_ARGS) {
      const message = `the call has ${args.length} arguments; it may have ${MAX_ARGS}`
      queueMicrotask(() => this.refused(id, new Failure('BAD_REQUEST', message)))
      return
    }
    let bytes = chunk?.length ?? 0
    for (const arg of args) bytes += arg.length
    const isLarge = bytes > LARGE_BYTES
    const message = this.#fill(isLarge || (this.#message?.fields ?? 0) + args.length > MAX_ARGS, id - 1)
    if (!message.head || !isSame(message.head, head)) message.begin(head)
    message.add(id, args, chunk)
    if (isLarge) this.#cut(message, id)
  }

  cancel(id: number): void {
    this.#fill(false, this.#lastId).cancel(id)
  }

  /** A stream begins; one that was there before is over. */
  attach(stream: CallStream): void {
    this.#stream = stream
    this.#unsent = 0
  }

  /** The server has answered a stream. What it has not received of what was written to those before goes out first. */
  greeted(maxBytes: number, isResumed: boolean): void {
    this.#maxBytes = maxBytes || Number.POSITIVE_INFINITY
    if (!isResumed) return
    this.#waiting = [...this.#unconfirmed, ...this.#waiting]
    this.#unconfirmed = []
  }

  /** So many messages have been received by the server; one may say that it has received more than was ever sent. */
  confirm(received: number): void {
    this.#confirmed += this.#unconfirmed.splice(0, Math.max(0, received - this.#confirmed)).length
  }

  /** Writes what the stream takes. */
  write(): void {
    if (this.isBlocked) return
    if (this.#message) this.#cut(this.#message)
    while (!this.isBlocked) {
      const message = this.#waiting[0]
      if (!message || !this.#mayLeave(message)) return
      this.#waiting.shift()
      if (this.#isTooLarge(message)) continue
      this.#unconfirmed.push(message)
      // Also of one that is sent again.
      this.#writtenId = Math.max(this.#writtenId, message.lastId)
      this.#send(message.bytes)
    }
  }

  #mayLeave({ bytes }: Message): boolean {
    return this.#maxBytes !== undefined || bytes.length <= LARGE_BYTES
  }

  #isTooLarge({ bytes, onlyId }: Message): boolean {
    const max = this.#maxBytes ?? Number.POSITIVE_INFINITY
    if (onlyId === undefined || bytes.length <= max) return false
    const reason = `the arguments of the call take ${bytes.length} bytes; the server takes messages of ${max}`
    this.refused(onlyId, new Failure('PAYLOAD_TOO_LARGE', reason))
    return true
  }

  #send(bytes: Buffer): void {
    const stream = this.#stream
    this.#unsent += bytes.length
    stream?.write(bytes, () => {
      if (stream !== this.#stream) return
      const wasBlocked = this.isBlocked
      this.#unsent -= bytes.length
      if (wasBlocked) this.flush()
    })
  }

  /** The message being filled, or a new one where that has enough. */
  #fill(anew: boolean, lastId: number): CallRequestWriter {
    const message = this.#message
    if (message && (anew || message.length >= FRAME_TARGET_BYTES || message.calls >= FRAME_CALLS)) {
      this.#cut(message, undefined, lastId)
    }
    this.#message ??= new CallRequestWriter()
    return this.#message
  }

  #cut(message: CallRequestWriter, onlyId?: number, lastId = this.#lastId): void {
    this.#waiting.push({ bytes: message.finish(), lastId, onlyId })
    this.#message = undefined
  }
}

/** A message may have MAX_FIELDS in all its depth: besides these, what stands around them. */
const MAX_ARGS = MAX_FIELDS / 2

const NO_FAILURES: readonly ChunkFailure[] = []

/** A stream that broke is opened again after so long, then twice as long, and so on, up to LONGEST_PAUSE_MS. */
const FIRST_PAUSE_MS = 25
const LONGEST_PAUSE_MS = 1_000

/** How long the server may take to end a stream that was given up. */
const CLOSE_MS = 1_000

/**
 * Calls on their way, in one stream at a time: one that breaks is followed by another, which goes on where it broke
 * (Session in pool_service.proto).
 *   greeting   a stream has been opened; calls wait until the server answers, if any have been sent before or there was no connection
 *   open       calls are sent as they come
 *   broken     the stream broke; the next is opened soon
 *   ending     takes no calls; the server completes what it has, then ends the stream
 *   ended      over; calls that had no outcome by then have failed
 */
export class Session {
  #state: 'greeting' | 'open' | 'broken' | 'ending' | 'ended' = 'greeting'
  readonly #id = randomUUID()
  readonly #open = new Map<number, Sink>()
  #stream: CallStream
  #nextId = 1
  /** What it has to say; it leaves at the end of this turn, or when the stream takes more. */
  readonly #outbox = new Outbox(
    () => this.#flush(),
    (id, reason) => this.#refused(id, reason),
  )
  /** How many of the server's messages have been received, and how many, and how large, it has not been told of. */
  #received = 0
  #untold = 0
  #untoldBytes = 0
  /** The server has answered the current stream; and one of its streams. */
  #isGreeted = false
  #wasGreeted = false
  #scheduled = false
  /** The server drains: it completes what it has, and calls that come now are for another. */
  #isLeaving = false
  #idle: NodeJS.Timeout | undefined
  #retry: NodeJS.Timeout | undefined
  #brokenSince = 0
  #pauseMs = FIRST_PAUSE_MS

  /** @param isConnected where calls need not wait for the server's answer. */
  constructor(
    private readonly openStream: () => CallStream,
    isConnected: boolean,
  ) {
    this.#stream = this.#greet(false)
    if (isConnected) this.#state = 'open'
  }

  get usable(): boolean {
    return !this.#isLeaving && !this.#isEnding
  }

  get hasEnded(): boolean {
    return this.#state === 'ended'
  }

  get #isEnding(): boolean {
    return this.#state === 'ending' || this.#state === 'ended'
  }

  /** Starts a call; returns its id. */
  begin(head: GroupHead, args: readonly Uint8Array[], chunk: Uint8Array | undefined, sink: Sink): number {
    const id = this.#nextId++
    this.#open.set(id, sink)
    if (this.#idle) this.#stopIdling()
    this.#outbox.add(head, id, args, chunk)
    this.#flushSoon()
    return id
  }

  /** Gives a call up: it fails with the reason at once; one that has ended stays as it is. */
  cancel(id: number, reason: Failure): void {
    const sink = this.#open.get(id)
    if (!sink) return
    this.#open.delete(id)
    if (!this.#isEnding) {
      this.#outbox.cancel(id)
      this.#flushSoon()
    }
    sink.fail(reason)
    this.#rest()
  }

  /** Ends at once; what the server still has of it is cancelled there. */
  close(): void {
    if (this.#state === 'ended') return
    const stream = this.#stream
    const isOpen = this.#state === 'open' || this.#state === 'ending'
    this.#ended(new Failure('CANCELLED', 'the pool was closed while the call was under way'))
    if (!isOpen || this.#outbox.isBlocked) return stream.cancel()
    this.#tell(stream, { abandon: true, last: true })
    stream.end()
    const late = setTimeout(() => stream.cancel(), CLOSE_MS)
    stream.on('close', () => clearTimeout(late))
    late.unref()
  }

  #greet(resumed: boolean): CallStream {
    const stream = this.openStream()
    this.#isGreeted = false
    stream.on('data', (response: Buffer) => this.#hear(stream, response))
    stream.on('error', (error: ServiceError) => this.#failed(stream, error))
    // A server that drains ends the stream when it has answered all that it received; the rest it has never seen. A
    // stream that fails ends too, behind its error.
    stream.on('end', () => {
      if (stream === this.#stream && this.#state !== 'broken')
        this.#ended(new Failure('SERVER_DRAINING', 'the server has ended the stream'))
    })
    stream.on('drain', () => {
      if (stream === this.#stream) this.#flush()
    })
    this.#outbox.attach(stream)
    this.#tell(stream, { session: { id: this.#id, resumed } })
    return stream
  }

  #hear(stream: CallStream, response: Buffer): void {
    if (stream !== this.#stream) return
    try {
      this.#outbox.confirm(readOutcomes(response, (id, payload, failures) => this.#settle(id, payload, failures)))
      if (!this.#isGreeted) return this.#greeted(CallResponse.decode(response).maxMessageBytes)
    } catch (error) {
      // Nobody knows whose outcomes these were.
      this.#ended(new Failure('INTERNAL', `the server sent a malformed message: ${asFailure(error).message}`))
      return stream.cancel()
    }
    this.#received++
    this.#untold++
    this.#untoldBytes += response.length
    // Past the messages that wait: the server keeps what it has not been told of.
    if (this.#untold >= ACK_MESSAGES || this.#untoldBytes >= ACK_BYTES) this.#tell(stream)
  }

  /** Writes a message of the session itself: how many of the server's have been received, and what else there is to say. */
  #tell(stream: CallStream, facts: Partial<CallRequest> = {}): void {
    this.#untold = 0
    this.#untoldBytes = 0
    stream.write(encode({ received: this.#received, ...facts }))
  }

  /** The server has answered: what it has not received of what was written before goes out first. */
  #greeted(maxMessageBytes: number): void {
    this.#isGreeted = true
    this.#wasGreeted = true
    const isResumed = this.#state === 'greeting'
    this.#outbox.greeted(maxMessageBytes, isResumed)
    if (isResumed) {
      this.#state = 'open'
      this.#pauseMs = FIRST_PAUSE_MS
    }
    this.#flush()
    this.#rest()
  }

  /** The stream has failed. Unless the server said so itself, another one goes on with what it had. */
  #failed(stream: CallStream, error: ServiceError): void {
    const reason = failureOf(error)
    if (stream !== this.#stream || this.#state === 'broken' || this.#state === 'ended') return
    this.#stopIdling()
    if (this.#pauseMs === FIRST_PAUSE_MS) this.#brokenSince = performance.now()
    const isOver = performance.now() - this.#brokenSince > RESUME_MS
    const isBroken = reason.reason === 'CONNECTION_FAILED'
    if (isBroken && this.#isWorthResuming && !isOver && this.#state !== 'ending') {
      this.#state = 'broken'
      this.#retry = setTimeout(
        () => {
          this.#state = 'greeting'
          this.#stream = this.#greet(true)
        },
        this.#pauseMs * (0.5 + Math.random()),
      )
      this.#pauseMs = Math.min(LONGEST_PAUSE_MS, 2 * this.#pauseMs)
      return
    }
    this.#ended(reason)
  }

  /** The server has calls of it, or is still to hear that it need not have them. */
  get #isWorthResuming(): boolean {
    return this.#outbox.writtenId > 0 && (this.#open.size > 0 || this.#outbox.isUnheard)
  }

  #settle(id: number, payload: Uint8Array | undefined, failures: readonly ItemFailure[]): void {
    const sink = this.#open.get(id)
    if (!sink) return
    this.#open.delete(id)
    const known = failures.length === 0 ? NO_FAILURES : failures.map(failureIn)
    this.#isLeaving ||= known.some(({ failure }) => failure.reason === 'SERVER_DRAINING')
    sink.settle(payload, known)
    this.#rest()
  }

  #ended(reason: Failure): void {
    if (this.#state === 'ended') return
    this.#state = 'ended'
    this.#stopIdling()
    clearTimeout(this.#retry)
    const sinks = [...this.#open]
    this.#open.clear()
    const { reason: why, message } = reason
    const isLost = why === 'CONNECTION_FAILED' || why === 'SESSION_LOST'
    const lost = new Failure('CONNECTION_LOST', `the connection broke while the call was under way: ${message}`)
    const unsent = why === 'SESSION_LOST' ? new Failure('CONNECTION_FAILED', message) : reason
    // What is said of a stream that took calls is said of calls that may have begun, but where the server has completed
    // all that it received.
    const isComplete = why === 'SERVER_DRAINING' || !this.#wasGreeted
    const written = isLost ? lost : isComplete ? reason : reason.ofOneAmongMany()
    for (const [id, sink] of sinks) sink.fail(id <= this.#outbox.writtenId ? written : unsent)
  }

  /** Without calls the stream is ended after a while; a program that has nothing else to do can then end. */
  #rest(): void {
    if (this.#open.size > 0 || this.#state !== 'open') return
    if (this.#idle) this.#idle.refresh()
    else this.#idle = setTimeout(() => this.#end(), STREAM_IDLE_MS)
  }

  #stopIdling(): void {
    clearTimeout(this.#idle)
    this.#idle = undefined
  }

  /** Takes no more calls. */
  #end(): void {
    // Words that the server has not taken for so long are lost, and with them cancellations: it has to hear otherwise.
    if (this.#outbox.isWaiting) return this.close()
    this.#state = 'ending'
    this.#tell(this.#stream, { last: true })
    this.#stream.end()
  }

  #flushSoon(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    queueMicrotask(() => {
      this.#scheduled = false
      this.#flush()
    })
  }

  #flush(): void {
    if (this.#state === 'open') this.#outbox.write()
  }

  /** No message can carry it. */
  #refused(id: number, reason: Failure): void {
    const sink = this.#open.get(id)
    this.#open.delete(id)
    sink?.fail(reason)
    this.#rest()
  }
}

/** A message of the session itself, without calls. */
const encode = (facts: Partial<CallRequest>): Buffer =>
  Buffer.from(
    CallRequest.encode({
      groups: [],
      cancelled: [],
      session: undefined,
      received: 0,
      abandon: false,
      last: false,
      ...facts,
    }).finish(),
  )

const failureIn = ({ item, status }: ItemFailure): ChunkFailure => ({
  item,
  failure: status ? statusToFailure(status) : NO_OUTCOME,
})
