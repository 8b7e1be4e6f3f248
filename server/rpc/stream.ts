import type {
  CallGroup,
  CallItem,
  CallOutcome,
  CallRequest,
  CallResponse,
} from '../../proto/gen/farpool/routing/v1/routing.js'
import { OnError } from '../../proto/gen/farpool/v1/pool_service.js'
import { Channel } from '../../wire/channel.js'
import { asFailure, Failure } from '../../wire/failure.js'
import { MAX_TIMER_MS, STREAM_BYTES } from '../../wire/limits.js'
import type { Pool } from '../pool/pool.js'
import { failed, type Outcome, type TaskSpec, taskBytes } from '../pool/task.js'
import { checkRetries, checkSize } from './apply.js'
import type { Call, Requests } from './call.js'
import { checkOnError } from './chunks.js'
import type { RpcContext } from './context.js'
import { failuresOf } from './map.js'
import { pack } from './pack.js'

/** Call: a stream of calls, many in a message; each is a task with its own timeout, cancellation and outcome. */
export async function* callStream(
  context: RpcContext,
  requests: Requests<CallRequest>,
  call: Call,
): AsyncGenerator<CallResponse> {
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
    for (let outcomes = await stream.take(); outcomes.length > 0; outcomes = await stream.take()) {
      for (const packed of pack(outcomes, outcomeBytes)) yield { outcomes: packed }
    }
  } finally {
    stopListening()
    stream.abandon(new Failure('CANCELLED', 'the stream of the call has ended'))
  }
}

interface OpenCall {
  readonly pool: Pool
  readonly task: number
  readonly bytes: number
  /** Of the calls of its group that have a timeout in common. */
  readonly timeout: GroupTimeout | undefined
  readonly leave: () => void
}

/** The calls of one stream that have not ended. */
class CallStream {
  readonly #open = new Map<number, OpenCall>()
  readonly #outcomes = new Channel<CallOutcome>()
  #lastId = 0
  /** What open calls and outcomes that have not been taken hold. */
  #bytes = 0
  #paused = false
  /** No calls come any more: the stream ends with the last outcome. */
  #ending = false

  constructor(
    private readonly context: RpcContext,
    private readonly requests: Requests<CallRequest>,
  ) {}

  accept({ groups, cancelled }: CallRequest): void {
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

  /** Outcomes that are ready; none when the stream has ended. */
  async take(): Promise<CallOutcome[]> {
    const outcomes = await this.#outcomes.take()
    for (const outcome of outcomes) this.#bytes -= outcomeBytes(outcome)
    this.#flow()
    return outcomes
  }

  #begin(group: CallGroup): void {
    const refusal = this.#refusal(group)
    const timeout =
      group.timeoutMs > 0 && !refusal ? new GroupTimeout(group.timeoutMs, (id) => this.#late(id)) : undefined
    for (const item of group.calls) {
      if (item.id <= this.#lastId) {
        throw new Failure(
          'BAD_REQUEST',
          `a call has the id ${item.id}; it must be larger than ${this.#lastId}, the one before`,
        )
      }
      this.#lastId = item.id
      if (refusal) this.#tell(item.id, failed(refusal))
      else this.#submit(group, item, timeout)
    }
    timeout?.start()
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

  #submit(group: CallGroup, { id, args, chunk }: CallItem, timeout: GroupTimeout | undefined): void {
    const { function: name, kwargs, spread, replyKind, retries, onError } = group
    const spec: TaskSpec = {
      function: name,
      args: group.args.length === 0 ? args : [...group.args, ...args],
      kwargs,
      chunk,
      spread,
      replyKind,
      retries,
      failFast: onError === OnError.ON_ERROR_FAIL_FAST,
    }
    try {
      const pool = this.context.pools.get(group.pool)
      const bytes = taskBytes(spec)
      const task = pool.submit(spec, (outcome) => this.#settled(id, outcome))
      this.#open.set(id, { pool, task, bytes, timeout, leave: this.context.admission.enter() })
      this.#bytes += bytes
      timeout?.add(id)
    } catch (error) {
      this.#tell(id, failed(asFailure(error)))
    }
  }

  #settled(id: number, outcome: Outcome): void {
    if (this.#remove(id)) this.#tell(id, checkSize(outcome, this.context.limits.maxMessageBytes))
    this.#settleEnd()
  }

  /** Takes a call out of the open ones; undefined where it is none any more. */
  #remove(id: number): OpenCall | undefined {
    const open = this.#open.get(id)
    if (!open) return undefined
    this.#open.delete(id)
    this.#bytes -= open.bytes
    open.timeout?.remove(id)
    open.leave()
    return open
  }

  #tell(id: number, outcome: Outcome): void {
    const told = { id, payload: outcome.ok ? outcome.payload : undefined, failures: failuresOf(0, outcome) }
    this.#bytes += outcomeBytes(told)
    this.#outcomes.push(told)
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

  #flow(): void {
    const full = this.#bytes > (this.#paused ? STREAM_BYTES / 2 : STREAM_BYTES)
    if (full === this.#paused) return
    this.#paused = full
    this.requests[full ? 'pause' : 'resume']()
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

/** What an outcome takes; a failure is small, and bounded where it was made. */
const outcomeBytes = ({ payload, failures }: CallOutcome): number =>
  (payload?.length ?? 0) + 1024 * failures.length + 16
