import type { Pool } from '../../pool/pool.js'
import { failed, type Job, type Outcome, type Owner, type Task } from '../../pool/scheduler/task.js'
import type { CallGroup, CallItem, CallRequest } from '../../proto/gen/farpool/routing/v1/routing.js'
import { asFailure, Failure } from '../../wire/failure.js'
import { writeMaxMessageBytes, writeReceived } from '../../wire/framing/call-codec.js'
import { ProtoWriter } from '../../wire/framing/protobuf.js'
import { ACK_BYTES, ACK_MESSAGES, FRAME_CALLS, MAX_TIMER_MS } from '../../wire/protocol.js'
import { checkSize } from '../api/apply-rpc.js'
import type { RpcContext } from '../api/rpc-context.js'
import { jobOf } from '../api/submission.js'
import type { Requests } from '../grpc/adapter.js'
import { type Account, cutOff, STREAM_BYTES } from '../limits/memory-budget.js'
import { Outcomes } from './replay-buffer.js'

/** What an accepted call counts besides its arguments: with heap that waits to be collected it takes that much or less. */
const CALL_BYTES = 4 * 1024

/** One timer for the calls of a group; gone when the last of them has ended. */
export class GroupTimeout {
  readonly #ids = new Set<number>()
  #timer: NodeJS.Timeout | undefined

  constructor(
    private readonly ms: number,
    private readonly onLate: (id: number) => void,
  ) {}

  add(id: number): void {
    this.#ids.add(id)
  }

  remove(id: number): void {
    this.#ids.delete(id)
    if (this.#ids.size === 0) clearTimeout(this.#timer)
  }

  start(): void {
    if (this.#ids.size === 0 || this.ms > MAX_TIMER_MS) return
    this.#timer = setTimeout(() => {
      for (const id of [...this.#ids]) this.onLate(id)
    }, this.ms)
  }
}

interface OpenCall {
  readonly pool: Pool
  readonly task: Task
  /** Of the calls of its group that have a timeout in common. */
  readonly timeout: GroupTimeout | undefined
}

/** The calls of one stream, or of the streams of one session, that have not ended. */
export class CallStream implements Owner {
  readonly #open = new Map<number, OpenCall>()
  readonly #account: Account
  readonly #close: () => void
  readonly #outcomes = new Outcomes()
  #lastId = 0
  /** What open calls hold. */
  #bytes = 0
  #full = false
  #wasFull = false
  /** Calls of this turn of the event loop. */
  #begun = 0
  #resting = false
  #paused = false
  /** No calls come any more: the stream ends with the last outcome. */
  #ending = false
  #isLast = false
  /** The stream that it has now; undefined while a session waits for its next one. */
  #requests: Requests<CallRequest> | undefined
  /** As a client of pools: it shares its turns with all that comes over the connection which it has now, or had last. */
  connection: object | undefined
  /** Counts the streams. */
  #turn = 0
  /** How many messages have been received, and the number of the last that was handed out. */
  #received = 0
  #taken = 0

  constructor(
    private readonly context: RpcContext,
    private readonly isSession: boolean,
  ) {
    this.#account = context.budget.open(() => this.end(cutOff()))
    this.#close = context.admission.open()
  }

  get turn(): number {
    return this.#turn
  }

  /** Its client has said that this is its end. */
  get isLast(): boolean {
    return this.#isLast
  }

  /** A stream begins; one that was there before is over. `received`: how many messages its client has received. */
  attach(requests: Requests<CallRequest>, received: number, connection: object | undefined): number {
    this.#requests = requests
    this.connection = connection
    this.#paused = false
    this.#outcomes.release(received)
    this.#outcomes.rewind()
    this.#taken = received
    this.#turn++
    this.#outcomes.interrupt()
    this.#resumeTasks()
    this.#flow()
    return this.#turn
  }

  /** Its stream has broken: what runs goes on, nothing else begins. */
  detach(): void {
    this.#requests = undefined
    this.#turn++
    this.#wasFull = true
    this.#outcomes.interrupt()
  }

  /** The first message of a session's stream. */
  greeting(): Uint8Array {
    const writer = new ProtoWriter(16)
    writeReceived(writer, this.#received)
    writeMaxMessageBytes(writer, this.context.limits.maxMessageBytes)
    return writer.take()
  }

  accept({ groups, cancelled, received, abandon, last }: CallRequest): void {
    // Messages still come while the end of a stream is on its way out. Nobody would be told what became of their calls,
    // and nobody would end them.
    if (this.#outcomes.ended) return
    for (const group of groups) this.#begin(group)
    for (const id of cancelled) this.#cancel(id)
    if (abandon) for (const id of [...this.#open.keys()]) this.#cancel(id)
    if (this.isSession) {
      this.#outcomes.release(received)
      this.#resumeTasks()
      if (groups.length > 0 || cancelled.length > 0) this.#outcomes.receive(++this.#received, ACK_MESSAGES)
    }
    if (last) {
      this.#isLast = true
      this.inputEnded()
    }
    this.#flow()
  }

  inputEnded(): void {
    this.#ending = true
    this.#settleEnd()
  }

  /** Nobody waits for the outcomes any more, or the stream cannot go on. */
  abandon(reason: Failure): void {
    this.#outcomes.end(reason)
    for (const id of [...this.#open.keys()]) this.#cancel(id)
  }

  /** It is over: what has not ended is given up, what nobody has taken is forgotten. */
  end(reason: Failure): void {
    this.abandon(reason)
    this.#outcomes.drop(reason)
    this.#account.close()
    this.#close()
  }

  /** As a client of pools: its tasks wait while nobody reads the outcomes of those that were before them. */
  get isFull(): boolean {
    const share = 2 * this.context.budget.share
    const isFull = this.#requests === undefined || this.#outcomes.bytes > share || this.#isUnheard
    if (isFull) this.#waitForRoom()
    return isFull
  }

  /** A stream that has much in a queue is not refused: it is read no further. */
  readonly isHeldBack = true

  /** Much has been handed out of which the client of the session has not said that it has it: more than it says it for. */
  get #isUnheard(): boolean {
    return this.#outcomes.keptBytes > 2 * Math.max(ACK_BYTES, this.context.budget.share)
  }

  /** The next message of outcomes; undefined when they have ended, or another stream has come. */
  async take(turn: number): Promise<Uint8Array | undefined> {
    const message = await this.#outcomes.take(this.#taken + 1, () => this.#turn !== turn)
    if (this.#turn !== turn) return undefined
    if (message) this.#taken++
    if (!this.isSession) this.#outcomes.release(this.#taken)
    this.#flow()
    this.#resumeTasks()
    return message
  }

  #resumeTasks(): void {
    if (!this.#wasFull || this.isFull) return
    this.#wasFull = false
    for (const pool of new Set([...this.#open.values()].map((call) => call.pool))) pool.resume()
  }

  #waitForRoom(): void {
    this.#wasFull = true
    this.context.budget.wait(this.#room)
  }

  /** There may be room again, for its tasks and for what it has not read. */
  readonly #room = (): void => {
    this.#flow()
    this.#resumeTasks()
  }

  /** What it holds, for the budget of all. */
  #count(): void {
    this.#account.add(this.#bytes + this.#outcomes.bytes + this.#outcomes.keptBytes - this.#account.bytes)
  }

  /** What became of a task; its key is the call's id. */
  settled(id: number, outcome: Outcome): void {
    if (this.#remove(id)) this.#outcomes.push(id, checkSize(outcome, this.context.limits.maxMessageBytes))
    this.#count()
    this.#settleEnd()
  }

  #begin(group: CallGroup): void {
    const found = this.#find(group)
    const timeout =
      group.timeoutMs > 0 && !(found instanceof Failure)
        ? new GroupTimeout(group.timeoutMs, (id) => this.#late(id))
        : undefined
    for (const item of group.calls) {
      if (item.id <= this.#lastId) {
        throw new Failure(
          'BAD_REQUEST',
          `a call has the id ${item.id}; it must be larger than ${this.#lastId}, the one before`,
        )
      }
      this.#lastId = item.id
      this.#begun++
      if (found instanceof Failure) this.#outcomes.push(item.id, failed(found))
      else this.#submit(found.pool, found.job, item, timeout)
    }
    timeout?.start()
  }

  /** What the calls of a group have in common, or what is wrong with every one of them. */
  #find(group: CallGroup): { readonly pool: Pool; readonly job: Job } | Failure {
    try {
      this.context.admission.check()
      return jobOf(this.context, group, this)
    } catch (error) {
      return asFailure(error)
    }
  }

  #submit(pool: Pool, job: Job, { id, args, chunk }: CallItem, timeout: GroupTimeout | undefined): void {
    try {
      const task = pool.submit(job, args, chunk, this, id)
      this.context.admission.enter()
      this.#open.set(id, { pool, task, timeout })
      this.#bytes += task.bytes + CALL_BYTES
      timeout?.add(id)
    } catch (error) {
      this.#outcomes.push(id, failed(asFailure(error)))
    }
  }

  /** Takes a call out of the open ones; undefined where it is none any more. */
  #remove(id: number): OpenCall | undefined {
    const open = this.#open.get(id)
    if (!open) return undefined
    this.#open.delete(id)
    this.#bytes -= open.task.bytes + CALL_BYTES
    open.timeout?.remove(id)
    this.context.admission.leave()
    return open
  }

  #cancel(id: number): void {
    const open = this.#remove(id)
    open?.pool.end(open.task, new Failure('CANCELLED', 'the call was cancelled, or its client is gone'))
    this.#settleEnd()
  }

  #late(id: number): void {
    const open = this.#open.get(id)
    open?.pool.end(open.task, new Failure('TASK_TIMEOUT', "the call's timeout passed before it ended"))
  }

  #settleEnd(): void {
    if (this.#ending && this.#open.size === 0) this.#outcomes.end()
  }

  /** Reads no more where it holds too much, or has begun many calls in this turn: other streams want theirs too. */
  #flow(): void {
    this.#count()
    const { budget, limits } = this.context
    const share = this.#full ? 0.5 : 1
    const held = this.#bytes + this.#outcomes.bytes
    this.#full = held > share * budget.share || this.#open.size > share * limits.maxQueuedPerClient
    if (this.#full) budget.wait(this.#room)
    if (this.#begun >= FRAME_CALLS && !this.#resting) {
      this.#resting = true
      setImmediate(() => {
        this.#resting = false
        this.#begun = 0
        this.#flow()
      })
    }
    // What it waits for then is behind what it does not read: that is at most a window's worth.
    if (this.#full && this.#isUnheard) {
      if (this.#bytes > SILENT_BYTES + 2 * limits.maxMessageBytes) return this.abandon(silentClient(this.#bytes))
      this.#full = false
    }
    const paused = this.#full || this.#resting
    if (paused === this.#paused || !this.#requests) return
    this.#paused = paused
    this.#requests[paused ? 'pause' : 'resume']()
  }
}

/** A stream's share, and what the windows and buffers on the way hold. */
const SILENT_BYTES = 2 * STREAM_BYTES

const silentClient = (bytes: number) =>
  new Failure(
    'BAD_REQUEST',
    `the client does not say of the outcomes that it has received them, and has sent ${bytes} bytes of calls meanwhile`,
    { started: 'unknown' },
  )
