import type { CallGroup, CallItem, CallRequest } from '../../proto/gen/farpool/routing/v1/routing.js'
import { OnError } from '../../proto/gen/farpool/v1/pool_service.js'
import { asFailure, Failure } from '../../wire/failure.js'
import { CALL_BYTES, FRAME_CALLS, MAX_TIMER_MS, STREAM_BYTES } from '../../wire/limits.js'
import type { Pool } from '../pool/pool.js'
import { failed, type Job, type Outcome, type Owner, type Task } from '../pool/task.js'
import { checkRetries, checkSize } from './apply.js'
import type { Call, Requests } from './call.js'
import { checkOnError } from './chunks.js'
import type { RpcContext } from './context.js'
import { Outcomes } from './outcomes.js'

/** Call: a stream of calls, many in a message; each is a task with its own timeout, cancellation and outcome. */
export async function* callStream(
  context: RpcContext,
  requests: Requests<CallRequest>,
  call: Call,
): AsyncGenerator<Uint8Array> {
  context.admission.check()
  const stream = new CallStream(context, requests)
  requests.listen({
    message: (request) => stream.accept(request),
    end: () => stream.inputEnded(),
    fail: (error) => stream.abandon(asFailure(error)),
  })
  call.onEnd((reason) => stream.abandon(reason))
  const stopListening = context.admission.onDrain(() => stream.inputEnded())
  try {
    for (let message = await stream.take(); message; message = await stream.take()) yield message
  } finally {
    stopListening()
    stream.abandon(new Failure('CANCELLED', 'the stream of the call has ended'))
  }
}

interface OpenCall {
  readonly pool: Pool
  readonly task: Task
  /** Of the calls of its group that have a timeout in common. */
  readonly timeout: GroupTimeout | undefined
}

/** The calls of one stream that have not ended. */
class CallStream implements Owner {
  readonly #open = new Map<number, OpenCall>()
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

  constructor(
    private readonly context: RpcContext,
    private readonly requests: Requests<CallRequest>,
  ) {}

  accept({ groups, cancelled }: CallRequest): void {
    // Messages still come while the end of a stream is on its way out. Nobody would be told what became of their calls,
    // and nobody would end them.
    if (this.#outcomes.ended) return
    for (const group of groups) this.#begin(group)
    for (const id of cancelled) this.#cancel(id)
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

  /** As a client of pools: its tasks wait while nobody reads the outcomes of those that were before them. */
  get isFull(): boolean {
    return this.#outcomes.bytes > 2 * STREAM_BYTES
  }

  /** The next message of outcomes; undefined when the stream has ended. */
  async take(): Promise<Uint8Array | undefined> {
    const message = await this.#outcomes.take()
    this.#flow()
    if (this.#wasFull && !this.isFull) {
      this.#wasFull = false
      for (const pool of new Set([...this.#open.values()].map((call) => call.pool))) pool.resume()
    }
    return message
  }

  /** What became of a task; its key is the call's id. */
  settled(id: number, outcome: Outcome): void {
    if (this.#remove(id)) this.#outcomes.push(id, checkSize(outcome, this.context.limits.maxMessageBytes))
    this.#wasFull ||= this.isFull
    this.#settleEnd()
  }

  #begin(group: CallGroup): void {
    const refusal = this.#refusal(group)
    const timeout =
      group.timeoutMs > 0 && !refusal ? new GroupTimeout(group.timeoutMs, (id) => this.#late(id)) : undefined
    const job = this.#jobOf(group)
    const pool = refusal ? undefined : this.context.pools.get(group.pool)
    for (const item of group.calls) {
      if (item.id <= this.#lastId) {
        throw new Failure(
          'BAD_REQUEST',
          `a call has the id ${item.id}; it must be larger than ${this.#lastId}, the one before`,
        )
      }
      this.#lastId = item.id
      this.#begun++
      if (pool) this.#submit(pool, job, item, timeout)
      else if (refusal) this.#outcomes.push(item.id, failed(refusal))
    }
    timeout?.start()
  }

  #jobOf({ function: name, args, kwargs, spread, replyKind, retries, onError }: CallGroup): Job {
    const failFast = onError === OnError.ON_ERROR_FAIL_FAST
    return { function: name, args, kwargs, spread, replyKind, retries, failFast, client: this }
  }

  /** What is wrong with every call of the group. */
  #refusal(group: CallGroup): Failure | undefined {
    try {
      this.context.admission.check()
      this.context.pools.get(group.pool)
      this.context.pools.functions.check(group.function)
      checkRetries(group.retries)
      checkOnError(group.onError)
      return undefined
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
    const held = this.#bytes + this.#outcomes.bytes
    this.#full = held > (this.#full ? STREAM_BYTES / 2 : STREAM_BYTES)
    if (this.#begun >= FRAME_CALLS && !this.#resting) {
      this.#resting = true
      setImmediate(() => {
        this.#resting = false
        this.#begun = 0
        this.#flow()
      })
    }
    const paused = this.#full || this.#resting
    if (paused === this.#paused) return
    this.#paused = paused
    this.requests[paused ? 'pause' : 'resume']()
  }
}

/** One timer for the calls of a group; gone when the last of them has ended. */
class GroupTimeout {
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
