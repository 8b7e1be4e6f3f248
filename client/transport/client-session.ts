import { randomUUID } from 'node:crypto'
import type { ClientDuplexStream, ServiceError } from '@grpc/grpc-js'
import { CallRequest, CallResponse, type ItemFailure } from '../../proto/gen/farpool/routing/v1/routing.js'
import { asFailure, Failure, statusToFailure } from '../../wire/failure.js'
import { CallRequestWriter, type GroupHead, isSameHead, readOutcomes } from '../../wire/framing/call-codec.js'
import { bytesOf } from '../../wire/framing/protobuf.js'
import {
  ACK_BYTES,
  ACK_MESSAGES,
  FRAME_CALLS,
  FRAME_TARGET_BYTES,
  MAX_FIELDS,
  RESUME_MS,
  UNSENT_BYTES,
} from '../../wire/protocol.js'
import { neverSent } from '../../wire/timeout.js'
import type { CallPort } from './call-port.js'
import { failureOf } from './grpc-status.js'
import { boundTooLarge, type ChunkFailure, isTooLarge, NO_OUTCOME, type Sink, type Ticket } from './transport.js'

/*
 * The client's end of a session: calls that outlive the stream on which they travel (Session in pool_service.proto).
 * The server's end is in server/session/.
 *
 *        client                                              server
 *          │  greeting {session id, resumed: false}             │
 *          │ ─────────────────────────────────────────────────▶ │
 *          │                  greeting {received: 0, maxBytes}  │
 *          │ ◀───────────────────────────────────────────────── │
 *          │  message 1 {calls 1, 2, 3}                         │
 *          │  message 2 {call 4, cancelled: 2}                  │
 *          │ ─────────────────────────────────────────────────▶ │
 *          │      message 1 {outcomes of 1 and 3, received: 2}  │    received: messages 1 and 2 are acknowledged
 *          │ ◀───────────────────────────────────────────────── │
 *          │  {received: 1}                                     │    an acknowledgement has no number of its own
 *          │ ─────────────────────────────────────────────────▶ │
 *          ╳                the stream breaks                   ╳
 *          │  greeting {session id, resumed: true, received: 1} │
 *          │ ─────────────────────────────────────────────────▶ │
 *          │                  greeting {received: 2, maxBytes}  │    each end sends again the messages that
 *          │ ◀───────────────────────────────────────────────── │    the other end has not received
 *          │  {last: true}, end of the client's side            │
 *          │ ─────────────────────────────────────────────────▶ │
 *          │                            end of the stream       │
 *          │ ◀───────────────────────────────────────────────── │
 *
 * Invariants:
 * - S1  A call is in #calls from begin() until its Sink gets its one settle() or fail().
 * - S2  Ids of calls grow in the order in which the calls enter messages, and messages leave in that order. So a call
 *       with an id above Outbox.writtenId has certainly not started.
 * - S3  Both ends count the messages of the whole session, not of one stream. The client counts those that bring calls
 *       or cancellations; the server counts all but its greetings. Greetings and acknowledgements of the client have no
 *       number.
 * - S4  A numbered message stays in the Outbox until the server has acknowledged it.
 * - S5  In the state `greeting` only the client's greeting is written. A resumed stream always begins in this state; the
 *       first stream does not if there is a connection and the server's message limit is known, so that a call saves a
 *       round trip.
 * - S6  Events of a stream that is no longer the current one are ignored.
 * - S7  No message is larger than the server's limit: such a message would end the stream, and with it all calls.
 */

/** A session without calls ends after this time: an open stream would keep the client's process alive. */
const IDLE_MS = 500

/** The pause before a broken stream is opened again. Each is twice as long as the one before, up to LONGEST_PAUSE_MS. */
const FIRST_PAUSE_MS = 25
const LONGEST_PAUSE_MS = 1_000

/** How long the server may take to end a stream after close(). */
const CLOSE_MS = 1_000

/** A larger call is the only one of its message. */
const LARGE_BYTES = 2 * 1024 * 1024

/** A message may have MAX_FIELDS fields in all its depth; one half is for the fields around the arguments. */
const MAX_ARGS = MAX_FIELDS / 2

const NO_FAILURES: readonly ChunkFailure[] = []

/** Encoded CallRequests are written to it, encoded CallResponses are read from it. */
type CallStream = ClientDuplexStream<Buffer, Buffer>

/** A time without a working stream: from the first break until the server answers a new stream. */
interface Outage {
  readonly since: number
  /** The pause after the next break. */
  pauseMs: number
}

/**
 *   greeting   a stream has been opened; calls wait until the server has answered it
 *   open       calls are sent as they come; `idle` runs while there are none
 *   broken     the stream broke; `retry` opens the next one
 *   ending     takes no calls; the client has sent its last message, and the server ends the stream
 *   ended      all calls have their outcome
 */
type State =
  | { readonly kind: 'greeting'; readonly outage: Outage | undefined }
  | { readonly kind: 'open'; idle: NodeJS.Timeout | undefined }
  | { readonly kind: 'broken'; readonly outage: Outage; readonly retry: NodeJS.Timeout }
  | { readonly kind: 'ending' }
  | { readonly kind: 'ended' }

/** Calls that travel in one stream at a time. A stream that breaks is followed by another, which resumes the session. */
export class Session implements CallPort {
  #state: State
  readonly #id = randomUUID()
  /** The calls that are under way, by id. */
  readonly #calls = new Map<number, Sink>()
  #nextId = 1
  #stream: CallStream
  readonly #outbox = new Outbox(
    () => this.#write(),
    (id, reason) => this.#finish(id)?.fail(reason),
  )
  /** How many numbered messages of the server have been received (S3). */
  #received = 0
  /** Of these, the messages and bytes that have not been acknowledged. */
  #unacknowledged = 0
  #unacknowledgedBytes = 0
  /** Which streams the server has answered: none, an earlier one but not the current one, or the current one. */
  #greeted: 'never' | 'earlier' | 'current' = 'never'
  /** The server drains: it completes the calls that it has, and new calls need another session. */
  #isDraining = false
  /** The messages will be written at the end of this turn of the event loop. */
  #isWriteScheduled = false

  /**
   * @param maxBytes the server's limit for one message, if it is known and there is a connection: then calls do not wait for
   *   the server's greeting.
   */
  constructor(
    private readonly openStream: () => CallStream,
    maxBytes: number | undefined,
  ) {
    if (maxBytes !== undefined) this.#outbox.limit(maxBytes)
    this.#state = maxBytes === undefined ? { kind: 'greeting', outage: undefined } : { kind: 'open', idle: undefined }
    this.#stream = this.#open(false)
  }

  /** Whether it takes new calls. */
  get isUsable(): boolean {
    return !this.#isDraining && !this.#isOver
  }

  get hasEnded(): boolean {
    return this.#state.kind === 'ended'
  }

  /** The server's limit for one message; undefined until it is known. */
  get maxBytes(): number | undefined {
    return this.#outbox.maxBytes
  }

  get serverEndsCalls(): boolean {
    return this.#state.kind === 'open'
  }

  begin(head: GroupHead, args: readonly Uint8Array[], chunk: Uint8Array | undefined, sink: Sink): Ticket {
    const id = this.#nextId++
    this.#calls.set(id, sink)
    this.#stopIdling()
    this.#outbox.add(head, id, args, chunk)
    this.#writeSoon()
    return new SessionTicket(this, id)
  }

  /** The call fails with this reason at once, and the server is told to cancel it. Nothing happens if it has ended. */
  cancel(id: number, reason: Failure): void {
    if (!this.#calls.has(id)) return
    const wasWritten = id <= this.#outbox.writtenId
    if (!this.#isOver) {
      this.#outbox.cancel(id)
      this.#writeSoon()
    }
    this.#finish(id)?.fail(wasWritten ? reason : neverSent(reason))
  }

  /** Ends at once. The server cancels the calls that it still has. */
  close(): void {
    const { kind } = this.#state
    if (kind === 'ended') return
    const stream = this.#stream
    this.#end(new Failure('CANCELLED', 'the pool was closed while the call was under way'))
    if ((kind !== 'open' && kind !== 'ending') || this.#outbox.isBlocked) return stream.cancel()
    this.#send(stream, { abandon: true, last: true })
    stream.end()
    const timer = setTimeout(() => stream.cancel(), CLOSE_MS)
    stream.on('close', () => clearTimeout(timer))
    timer.unref()
  }

  get #isOver(): boolean {
    return this.#state.kind === 'ending' || this.#state.kind === 'ended'
  }

  /** The only place that changes the state. The timers of the old state end with it. */
  #become(state: State): void {
    if (this.#state.kind === 'open') clearTimeout(this.#state.idle)
    else if (this.#state.kind === 'broken') clearTimeout(this.#state.retry)
    this.#state = state
  }

  #open(resumed: boolean): CallStream {
    const stream = this.openStream()
    if (this.#greeted === 'current') this.#greeted = 'earlier'
    stream.on('data', (response: Buffer) => this.#onMessage(stream, response))
    stream.on('error', (error: ServiceError) => this.#onError(stream, error))
    // After an error there is an 'end', too; the state is no longer that of an open stream then.
    stream.on('end', () => {
      if (stream !== this.#stream || this.#state.kind === 'broken') return
      // A draining server ends the stream when it has answered all calls that it received.
      this.#end(new Failure('SERVER_DRAINING', 'the server has ended the stream'))
    })
    stream.on('drain', () => {
      if (stream === this.#stream) this.#write()
    })
    this.#outbox.attach(stream)
    this.#send(stream, { session: { id: this.#id, resumed } })
    return stream
  }

  #onMessage(stream: CallStream, response: Buffer): void {
    if (stream !== this.#stream) return
    try {
      const acknowledged = readOutcomes(response, (id, payload, failures) => this.#settle(id, payload, failures))
      this.#outbox.acknowledge(acknowledged)
      if (this.#greeted !== 'current') return this.#onGreeting(CallResponse.decode(response).maxMessageBytes)
    } catch (error) {
      // The calls that this message settles are unknown, so no call can be relied on.
      this.#end(new Failure('INTERNAL', `the server sent a malformed message: ${asFailure(error).message}`))
      return stream.cancel()
    }
    this.#received++
    this.#unacknowledged++
    this.#unacknowledgedBytes += response.length
    // Written before the messages that wait: the server keeps its messages until they are acknowledged.
    if (this.#unacknowledged >= ACK_MESSAGES || this.#unacknowledgedBytes >= ACK_BYTES) this.#send(stream)
  }

  /** The server has answered the current stream. */
  #onGreeting(maxMessageBytes: number): void {
    this.#greeted = 'current'
    const hasWaited = this.#state.kind === 'greeting'
    this.#outbox.limit(maxMessageBytes)
    if (hasWaited) {
      this.#outbox.rewind()
      this.#become({ kind: 'open', idle: undefined })
    }
    this.#write()
    this.#idleIfEmpty()
  }

  /** The stream failed. If only the connection broke, a new stream resumes the session. */
  #onError(stream: CallStream, error: ServiceError): void {
    const state = this.#state
    if (stream !== this.#stream || state.kind === 'broken' || state.kind === 'ended') return
    const reason = failureOf(error)
    const known = state.kind === 'greeting' ? state.outage : undefined
    const outage = known ?? { since: performance.now(), pauseMs: FIRST_PAUSE_MS }
    const isTooLate = performance.now() - outage.since > RESUME_MS
    if (state.kind === 'ending' || reason.reason !== 'CONNECTION_FAILED' || isTooLate || !this.#isWorthResuming) {
      return this.#end(reason)
    }
    const retry = setTimeout(() => this.#resume(outage), outage.pauseMs * (0.5 + Math.random()))
    outage.pauseMs = Math.min(LONGEST_PAUSE_MS, 2 * outage.pauseMs)
    this.#become({ kind: 'broken', outage, retry })
  }

  #resume(outage: Outage): void {
    this.#become({ kind: 'greeting', outage })
    this.#stream = this.#open(true)
  }

  /** The server may have calls of this session, or may not have received their cancellations. */
  get #isWorthResuming(): boolean {
    return this.#outbox.writtenId > 0 && (this.#calls.size > 0 || this.#outbox.hasUnacknowledged)
  }

  #settle(id: number, payload: Uint8Array | undefined, failures: readonly ItemFailure[]): void {
    const sink = this.#calls.get(id)
    if (!sink) return
    this.#calls.delete(id)
    let known = NO_FAILURES
    if (failures.length > 0) {
      known = failures.map(failureIn)
      this.#isDraining ||= known.some(({ failure }) => failure.reason === 'SERVER_DRAINING')
    }
    sink.settle(payload, known)
    this.#idleIfEmpty()
  }

  /** Removes a call and returns its Sink, which the caller fails. */
  #finish(id: number): Sink | undefined {
    const sink = this.#calls.get(id)
    this.#calls.delete(id)
    this.#idleIfEmpty()
    return sink
  }

  /** The session is over; the calls that are under way fail. */
  #end(reason: Failure): void {
    if (this.#state.kind === 'ended') return
    this.#become({ kind: 'ended' })
    const calls = [...this.#calls]
    this.#calls.clear()
    const { written, unwritten } = this.#failuresFor(reason)
    for (const [id, sink] of calls) sink.fail(id <= this.#outbox.writtenId ? written : unwritten)
  }

  /** The failure of calls that have been written and may have started, and of those that certainly have not (S2). */
  #failuresFor(reason: Failure): { written: Failure; unwritten: Failure } {
    const { reason: why, message } = reason
    // A message that was too large says nothing about calls that were not in it.
    const isOfOthers = why === 'SESSION_LOST' || isTooLarge(reason)
    const unwritten = isOfOthers ? new Failure('CONNECTION_FAILED', message) : reason
    if (why === 'CONNECTION_FAILED' || why === 'SESSION_LOST') {
      const lost = `the connection broke while the call was under way: ${message}`
      return { written: new Failure('CONNECTION_LOST', lost), unwritten }
    }
    // A draining server has answered every call that it received. A server that never answered has not taken any.
    const isCertain = why === 'SERVER_DRAINING' || this.#greeted === 'never'
    return { written: isCertain ? reason : reason.ofOneAmongMany(), unwritten }
  }

  /** Without calls the session ends after IDLE_MS; then the client's process can exit. */
  #idleIfEmpty(): void {
    if (this.#calls.size > 0 || this.#state.kind !== 'open') return
    if (this.#state.idle) this.#state.idle.refresh()
    else this.#state.idle = setTimeout(() => this.#onIdle(), IDLE_MS)
  }

  #stopIdling(): void {
    if (this.#state.kind !== 'open' || !this.#state.idle) return
    clearTimeout(this.#state.idle)
    this.#state.idle = undefined
  }

  #onIdle(): void {
    // The stream has not taken the last messages for IDLE_MS. They may be cancellations, so the session is abandoned.
    if (this.#outbox.hasUnwritten) return this.close()
    this.#become({ kind: 'ending' })
    this.#send(this.#stream, { last: true })
    this.#stream.end()
  }

  /** Sends a message without a number: a greeting, an acknowledgement, or the last message. Each one acknowledges. */
  #send(stream: CallStream, fields: Partial<CallRequest> = {}): void {
    this.#unacknowledged = 0
    this.#unacknowledgedBytes = 0
    stream.write(encode({ received: this.#received, ...fields }))
  }

  #writeSoon(): void {
    if (this.#isWriteScheduled) return
    this.#isWriteScheduled = true
    queueMicrotask(() => {
      this.#isWriteScheduled = false
      this.#write()
    })
  }

  #write(): void {
    if (this.#state.kind === 'open') this.#outbox.write()
  }
}

class SessionTicket implements Ticket {
  constructor(
    private readonly session: Session,
    private readonly id: number,
  ) {}

  cancel(reason: Failure): void {
    this.session.cancel(this.id, reason)
  }
}

/** A numbered message: calls and cancellations. */
interface Message {
  readonly bytes: Buffer
  /** The largest id of a call in this message, or in those before it. */
  readonly lastId: number
}

/**
 * The messages of a session on their way to the server. They are written as fast as the stream takes them, and kept until
 * the server has acknowledged them (S4).
 *
 *   being filled ─▶ waiting ─▶ written to the stream, unacknowledged ─▶ acknowledged
 *                      ▲                      │
 *                      └──────────────────────┘  on a resumed stream, if the server has not received it
 *
 * Calls enter messages when the server's limit is known (S7).
 */
class Outbox {
  /** Adds the calls and cancellations that came before the limit was known. */
  readonly #early: (() => void)[] = []
  #filling: CallRequestWriter | undefined
  #waiting: Message[] = []
  #unacknowledged: Message[] = []
  #acknowledgedCount = 0
  /** The id of the last call that was added. */
  #lastId = 0
  #writtenId = 0
  #stream: CallStream | undefined
  /** Written to the current stream, but not sent to the network yet. */
  #unsentBytes = 0
  #maxBytes: number | undefined

  /**
   * @param onUnblocked is called when the stream takes more messages.
   * @param onRefused is called, never during add(), with a call that no message can carry.
   */
  constructor(
    private readonly onUnblocked: () => void,
    private readonly onRefused: (id: number, reason: Failure) => void,
  ) {}

  /** The server's limit for one message; undefined until it is known. */
  get maxBytes(): number | undefined {
    return this.#maxBytes
  }

  /** Calls with a larger id have not been written to any stream (S2). */
  get writtenId(): number {
    return this.#writtenId
  }

  /** The stream takes no more bytes for now, or there is no stream. */
  get isBlocked(): boolean {
    return this.#stream === undefined || this.#stream.writableNeedDrain || this.#unsentBytes >= UNSENT_BYTES
  }

  /** There are calls or cancellations that have not been written. */
  get hasUnwritten(): boolean {
    return this.#early.length > 0 || this.#filling !== undefined || this.#waiting.length > 0
  }

  /** There are calls or cancellations that the server may not have received. */
  get hasUnacknowledged(): boolean {
    return this.hasUnwritten || this.#unacknowledged.length > 0
  }

  add(head: GroupHead, id: number, args: readonly Uint8Array[], chunk: Uint8Array | undefined): void {
    const max = this.#maxBytes
    if (max === undefined) return void this.#early.push(() => this.add(head, id, args, chunk))
    this.#lastId = id
    if (args.length > MAX_ARGS) {
      const message = `the call has ${args.length} arguments; it may have ${MAX_ARGS}`
      return this.#refuse(id, new Failure('BAD_REQUEST', message))
    }
    // Before the head is copied, which it is for each large chunk.
    const tooLarge = chunk && boundTooLarge(head, max)
    if (tooLarge) return this.#refuse(id, tooLarge)
    const bytes = bytesOf(args, chunk) + HEADS_BYTES + MAX_FIELD_HEAD_BYTES * args.length
    const isLarge = bytes > LARGE_BYTES || bytes + boundOf(head) > max
    const message = this.#fill(isLarge || !this.#hasRoom(head, bytes, args.length), id - 1)
    if (!message.head || !isSameHead(message.head, head)) message.begin(head)
    message.add(id, args, chunk)
    if (isLarge) this.#finishMessage(message, id, id)
  }

  cancel(id: number): void {
    if (this.#maxBytes === undefined) this.#early.push(() => this.cancel(id))
    else this.#fill(false, this.#lastId).cancel(id)
  }

  /** A new stream replaces the one before. */
  attach(stream: CallStream): void {
    this.#stream = stream
    this.#unsentBytes = 0
  }

  /** The server has told its limit for one message; 0 for none. */
  limit(maxBytes: number): void {
    this.#maxBytes = maxBytes || Number.POSITIVE_INFINITY
    for (const add of this.#early.splice(0)) add()
  }

  /** The server has answered a new stream: messages that it has not received are sent again, first. */
  rewind(): void {
    this.#waiting = [...this.#unacknowledged, ...this.#waiting]
    this.#unacknowledged = []
  }

  /** The server has received this many messages of the session. A faulty server may claim more than were sent. */
  acknowledge(received: number): void {
    if (received <= this.#acknowledgedCount) return
    this.#acknowledgedCount += this.#unacknowledged.splice(0, received - this.#acknowledgedCount).length
  }

  /** Writes as many messages as the stream takes. */
  write(): void {
    if (this.isBlocked) return
    if (this.#filling) this.#finishMessage(this.#filling, this.#lastId)
    while (!this.isBlocked) {
      const message = this.#waiting.shift()
      if (!message) return
      this.#unacknowledged.push(message)
      // A message that is sent again has a smaller id.
      this.#writtenId = Math.max(this.#writtenId, message.lastId)
      this.#send(message.bytes)
    }
  }

  #send(bytes: Buffer): void {
    const stream = this.#stream
    this.#unsentBytes += bytes.length
    stream?.write(bytes, () => {
      if (stream !== this.#stream) return
      const wasBlocked = this.isBlocked
      this.#unsentBytes -= bytes.length
      if (wasBlocked) this.onUnblocked()
    })
  }

  /** Whether the message that is being filled has room for a call of this size. */
  #hasRoom(head: GroupHead, bytes: number, args: number): boolean {
    const message = this.#filling
    if (!message) return true
    const max = this.#maxBytes ?? Number.POSITIVE_INFINITY
    const length = message.length + bytes
    if (message.fields + args > MAX_ARGS || length > max) return false
    return length + boundOf(head) <= max || (message.head !== undefined && isSameHead(message.head, head))
  }

  /** The message that is being filled; a new one if that one is full, or the call needs a message of its own. */
  #fill(startNew: boolean, lastId: number): CallRequestWriter {
    const message = this.#filling
    if (message && (startNew || message.length >= FRAME_TARGET_BYTES || message.calls >= FRAME_CALLS)) {
      this.#finishMessage(message, lastId)
    }
    this.#filling ??= new CallRequestWriter()
    return this.#filling
  }

  /** @param onlyId of a message with one call, which may be too large. */
  #finishMessage(message: CallRequestWriter, lastId: number, onlyId?: number): void {
    const bytes = message.finish()
    const max = this.#maxBytes ?? Number.POSITIVE_INFINITY
    this.#filling = undefined
    if (onlyId === undefined || bytes.length <= max) this.#waiting.push({ bytes, lastId })
    else {
      const message = `the arguments of the call take ${bytes.length} bytes; the server takes messages of ${max}`
      this.#refuse(onlyId, new Failure('PAYLOAD_TOO_LARGE', message))
    }
  }

  #refuse(id: number, reason: Failure): void {
    queueMicrotask(() => this.onRefused(id, reason))
  }
}

/** The most bytes in front of a field's content: a tag and a length. */
const MAX_FIELD_HEAD_BYTES = 6

/** The most bytes of a call, and of the group that it may begin, without their arguments and names. */
const HEADS_BYTES = 160

/** At most how many bytes the arguments and names of a group have. */
const boundOf = ({ pool, function: name, args, kwargs }: GroupHead): number =>
  bytesOf(args, kwargs) + MAX_FIELD_HEAD_BYTES * args.length + 3 * (pool.length + name.length)

/** A message without calls. */
const encode = (fields: Partial<CallRequest>): Buffer =>
  Buffer.from(
    CallRequest.encode({
      groups: [],
      cancelled: [],
      session: undefined,
      received: 0,
      abandon: false,
      last: false,
      ...fields,
    }).finish(),
  )

const failureIn = ({ item, status }: ItemFailure): ChunkFailure => ({
  item,
  failure: status ? statusToFailure(status) : NO_OUTCOME,
})
