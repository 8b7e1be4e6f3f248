import { randomUUID } from 'node:crypto'
import type { ServiceError } from '@grpc/grpc-js'
import type { ItemFailure } from '../proto/gen/farpool/routing/v1/routing.js'
import { CallRequest, CallResponse } from '../proto/gen/farpool/routing/v1/routing.js'
import { type GroupHead, readOutcomes } from '../wire/call-codec.js'
import { asFailure, Failure, statusToFailure } from '../wire/failure.js'
import { ACK_BYTES, ACK_MESSAGES, RESUME_MS, STREAM_IDLE_MS } from '../wire/limits.js'
import type { CallStream } from './grpc-transport.js'
import { Outbox } from './outbox.js'
import { failureOf } from './status.js'
import { type ChunkFailure, NO_OUTCOME, type Sink } from './transport.js'

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
