import { failed, type Identity } from '../../pool/scheduler/task.js'
import type { CallGroup, CallItem, CallRequest } from '../../proto/gen/farpool/routing/v1/routing.js'
import { asFailure, Failure } from '../../wire/failure.js'
import { writeMaxMessageBytes, writeReceived } from '../../wire/framing/call-codec.js'
import { type Pieces, ProtoWriter } from '../../wire/framing/protobuf.js'
import { ACK_BYTES, ACK_MESSAGES, FRAME_CALLS } from '../../wire/protocol.js'
import { timeoutPassed } from '../../wire/timeout.js'
import type { Caller, Credential, Principal } from '../auth/identity.js'
import {
  type CallContext,
  GroupTimeout,
  type JobTarget,
  type KnownClient,
  OpenCalls,
  resolveJob,
  waitingTasks,
} from '../calls/call-path.js'
import type { Requests } from '../grpc/adapter.js'
import { type Account, cutOff, STREAM_BYTES } from '../limits/memory-budget.js'
import { ReplayBuffer } from './replay-buffer.js'

/**
 * The calls of one stream, or of all streams of one session: many calls, and many outcomes, in a message.
 *
 *   message ─ accept ─▶ group ─ resolveJob ─▶ OpenCalls ─▶ engine
 *   message ◀─ take ──── ReplayBuffer ◀─ outcome ─┘
 *
 * Invariants:
 *  S1 Ids of calls grow. Each accepted call has one outcome in the buffer, unless it was cancelled.
 *  S2 A session has at most one stream at a time. Each new stream begins a new epoch; whatever an older stream still
 *     says or takes is void.
 *  S3 If a session's stream breaks, its running calls go on, nothing new begins, and unacknowledged messages are kept.
 *  S4 While it holds more than its share of the budget, has more open calls than its pools let one client queue,
 *     begins too many calls in one turn, or too many tasks of its principal wait, it is not read any further.
 *  S5 Of a principal with a rule for waiting tasks, no more wait than the rule and one full message of a Pool together.
 *     Further calls fail with QUEUE_FULL. One stream of a Pool never gets there, because of S4.
 */

/** More unacknowledged outcomes and open calls than this, of a client that acknowledges nothing, end the stream. */
const MAX_SILENT_BYTES = 2 * STREAM_BYTES

export class CallStream implements KnownClient {
  /** A stream is read no further instead of being refused. */
  readonly isPaced = true
  readonly principal: Principal
  readonly #account: Account
  readonly #leave: () => void
  readonly #outcomes = new ReplayBuffer()
  readonly #open: OpenCalls
  /** The current stream; undefined while a session waits for the next one. */
  #requests: Requests<CallRequest> | undefined
  #caller: Caller
  /** Counts the streams (S2). */
  #epoch = 0
  #lastId = 0
  /** Messages of calls that have been received, and the number of the last message of outcomes that was taken. */
  #received = 0
  #taken = 0
  /** It holds more than its share: not read until it holds half of that. */
  #isOverShare = false
  /** Some of its tasks could not begin, because `isFull` was true. */
  #wasFull = false
  /** The least of the limits of one client (`maxQueuedPerClient`) of the pools that it has called. */
  #maxOpen = Number.POSITIVE_INFINITY
  /** Calls that began in this turn of the event loop. With too many, it rests until the next turn. */
  #begun = 0
  #isResting = false
  #isPaused = false
  /** No more calls come: it ends with the last outcome. */
  #inputEnded = false
  #hasSaidLast = false

  /**
   * @param isSession its streams can be resumed.
   * @param caller that of its first stream.
   */
  constructor(
    private readonly context: CallContext,
    private readonly isSession: boolean,
    caller: Caller,
  ) {
    this.#caller = caller
    this.principal = caller.principal
    this.#account = context.budget.open(`stream of ${caller.identity.name}`, () => this.end(cutOff()))
    this.#leave = context.admission.openStream()
    this.#open = new OpenCalls(this.principal, context.maxMessageBytes, (id, outcome) => {
      this.#outcomes.push(id, outcome)
      this.#updateAccount()
      this.#checkEnd()
    })
  }

  get epoch(): number {
    return this.#epoch
  }

  /** Its client has said that it sends nothing more, and will not resume it. */
  get hasSaidLast(): boolean {
    return this.#hasSaidLast
  }

  /** That of its current stream, or of the last one. */
  get identity(): Identity {
    return this.#caller.identity
  }

  /** What its current stream, or the last one, has shown. */
  get credential(): Credential {
    return this.#caller.credential
  }

  /** Outcomes are not being read or not acknowledged: no more of its tasks begin. */
  get isFull(): boolean {
    const { budget } = this.context
    const isFull =
      this.#requests === undefined || this.#outcomes.waitingBytes > 2 * budget.share || this.#isUnacknowledged
    if (isFull) {
      this.#wasFull = true
      budget.wait(this.#onRoom)
    }
    return isFull
  }

  /**
   * A stream begins (S2). Returns its epoch.
   * @param received how many messages of outcomes its client has received.
   */
  attach(requests: Requests<CallRequest>, received: number, caller: Caller): number {
    this.#requests = requests
    this.#caller = caller
    this.#isPaused = false
    this.#outcomes.acknowledge(received)
    this.#outcomes.rewind()
    this.#taken = received
    this.#epoch++
    this.#outcomes.interrupt()
    this.#resumeTasks()
    this.#flow()
    return this.#epoch
  }

  /** The session's stream has broken (S3). */
  detach(): void {
    this.#requests = undefined
    this.#epoch++
    this.#wasFull = true
    this.#outcomes.interrupt()
  }

  /** The first message to the client of a session. */
  greeting(): Pieces {
    const writer = new ProtoWriter(16)
    writeReceived(writer, this.#received)
    writeMaxMessageBytes(writer, this.context.maxMessageBytes)
    return writer.takePieces()
  }

  /** Takes a message of the client. @throws Failure BAD_REQUEST if the ids of its calls do not grow. */
  accept({ groups, cancelled, received, abandon, last }: CallRequest): void {
    // Messages still come while the end of the stream is on its way. Nobody would hear of their calls.
    if (this.#outcomes.hasEnded) return
    for (const group of groups) this.#begin(group)
    for (const id of cancelled) this.#open.drop(id, gaveUp())
    if (abandon) this.#open.dropAll(gaveUp())
    if (this.isSession) {
      this.#outcomes.acknowledge(received)
      this.#resumeTasks()
      if (groups.length > 0 || cancelled.length > 0) this.#outcomes.confirm(++this.#received, ACK_MESSAGES)
    }
    if (last) {
      this.#hasSaidLast = true
      this.endInput()
    }
    this.#checkEnd()
    this.#flow()
  }

  /** No more calls come. The stream ends after the last outcome. */
  endInput(): void {
    this.#inputEnded = true
    this.#checkEnd()
  }

  /** Ends the stream with this reason. Its open calls are dropped; outcomes that are there are still taken. */
  abandon(reason: Failure): void {
    this.#outcomes.end(reason)
    this.#open.dropAll(gaveUp())
  }

  /** As `abandon`, and forgets the outcomes too. */
  end(reason: Failure): void {
    this.abandon(reason)
    this.#outcomes.drop(reason)
    this.principal.paused.delete(this.#onRoom)
    this.#account.close()
    this.#leave()
  }

  /** Waits for the next message of outcomes. Undefined if they have ended, or if a later stream takes them. */
  async take(epoch: number): Promise<Pieces | undefined> {
    const message = await this.#outcomes.take(this.#taken + 1, () => this.#epoch !== epoch)
    if (this.#epoch !== epoch) return undefined
    if (message) this.#taken++
    if (!this.isSession) this.#outcomes.acknowledge(this.#taken)
    this.#flow()
    this.#resumeTasks()
    return message
  }

  #begin(group: CallGroup): void {
    const target = this.#resolve(group)
    const timeout =
      group.timeoutMs > 0 && !(target instanceof Failure)
        ? new GroupTimeout(group.timeoutMs, (id) => this.#open.end(id, timeoutPassed(group.timeoutMs)))
        : undefined
    if (!(target instanceof Failure)) {
      this.#maxOpen = Math.min(this.#maxOpen, target.pool.options.limits.maxQueuedPerClient)
    }
    for (const item of group.calls) {
      if (item.id <= this.#lastId) {
        const message = `a call has the id ${item.id}; it must be larger than ${this.#lastId}, the one before`
        throw new Failure('BAD_REQUEST', message)
      }
      this.#lastId = item.id
      this.#begun++
      if (target instanceof Failure) this.#outcomes.push(item.id, failed(target))
      else this.#submit(target, item, timeout)
    }
    timeout?.start()
  }

  /** The job of a group, or the failure of every call in it. */
  #resolve(group: CallGroup): JobTarget | Failure {
    try {
      if (this.context.admission.isDraining) this.context.admission.check()
      return resolveJob(this.context, group, this)
    } catch (error) {
      return asFailure(error)
    }
  }

  #submit(target: JobTarget, item: CallItem, timeout: GroupTimeout | undefined): void {
    try {
      // Looked at here, because most principals have no such rule.
      if (this.principal.rules.queued !== undefined) this.principal.checkQueued(this.#countWaiting, FRAME_CALLS)
      this.#open.submit(target, item, false, timeout)
    } catch (error) {
      this.#outcomes.push(item.id, failed(asFailure(error)))
    }
  }

  #checkEnd(): void {
    if (this.#inputEnded && this.#open.size === 0) this.#outcomes.end()
  }

  /** More has been sent and not acknowledged than a client leaves open that acknowledges at all. */
  get #isUnacknowledged(): boolean {
    return this.#outcomes.sentBytes > 2 * Math.max(ACK_BYTES, this.context.budget.share)
  }

  /** If tasks had to wait because it was full, and it is not any more, they may begin. */
  #resumeTasks(): void {
    if (!this.#wasFull || this.isFull) return
    this.#wasFull = false
    for (const pool of this.#open.pools) pool.resume()
  }

  readonly #countWaiting = (): number => waitingTasks(this.context, this.principal)

  readonly #onRoom = (): void => {
    this.#flow()
    this.#resumeTasks()
  }

  #updateAccount(): void {
    const bytes = this.#open.bytes + this.#outcomes.waitingBytes + this.#outcomes.sentBytes
    this.#account.add(bytes - this.#account.bytes)
  }

  /** Pauses or resumes reading (S4). */
  #flow(): void {
    this.#updateAccount()
    const { budget, maxMessageBytes } = this.context
    const part = this.#isOverShare ? 0.5 : 1
    const bytes = this.#open.bytes + this.#outcomes.waitingBytes
    this.#isOverShare = bytes > part * budget.share || this.#open.size > part * this.#maxOpen
    if (this.#isOverShare) budget.wait(this.#onRoom)
    const { queued } = this.principal.rules
    if (queued !== undefined && this.#countWaiting() >= part * queued) {
      this.#isOverShare = true
      this.principal.paused.add(this.#onRoom)
    }
    if (this.#begun >= FRAME_CALLS && !this.#isResting) {
      this.#isResting = true
      setImmediate(() => {
        this.#isResting = false
        this.#begun = 0
        this.#flow()
      })
    }
    // Its acknowledgements are behind calls that have not been read. So it is read, up to what is on its way by then.
    if (this.#isOverShare && this.#isUnacknowledged) {
      if (this.#open.bytes > MAX_SILENT_BYTES + 2 * maxMessageBytes) return this.abandon(silent(this.#open.bytes))
      this.#isOverShare = false
    }
    const isPaused = this.#isOverShare || this.#isResting
    if (isPaused === this.#isPaused || !this.#requests) return
    this.#isPaused = isPaused
    this.#requests[isPaused ? 'pause' : 'resume']()
  }
}

const gaveUp = () => new Failure('CANCELLED', 'the call was cancelled, or its client is gone')

const silent = (bytes: number) =>
  new Failure(
    'BAD_REQUEST',
    `the client does not acknowledge the outcomes that it receives, and has sent ${bytes} bytes of calls meanwhile`,
    { started: 'unknown' },
  )
