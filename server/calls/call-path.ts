import type { Engine, EnginePool } from '../../pool/engine.js'
import {
  type Client,
  type Identity,
  type Job,
  type JobRequest,
  jobOf,
  type Outcome,
  type Task,
  type TaskOwner,
} from '../../pool/scheduler/task.js'
import type { ItemFailure } from '../../proto/gen/farpool/routing/v1/routing.js'
import { OnError } from '../../proto/gen/farpool/v1/pool_service.js'
import { Failure, failureToStatus } from '../../wire/failure.js'
import { MAX_TIMER_MS } from '../../wire/protocol.js'
import type { Phase } from '../../wire/timeout.js'
import type { Principal } from '../auth/identity.js'
import { callable, mayCall, NO_RULES, notAllowed } from '../auth/rules.js'
import type { Admission } from '../limits/admission.js'
import type { MemoryBudget } from '../limits/memory-budget.js'

/**
 * The one way of every call through the server, whatever RPC brings it:
 *
 *   request ─ resolveJob ─▶ job ─ OpenCalls.submit ─▶ engine
 *   reply ◀─ itemFailures ─ outcome ◀─ OpenCalls.settled ─┘
 *
 * Apply, Map and IMap use it through a RequestRun, the stream of calls through a CallStream.
 */

/** What every RPC that runs functions works with. */
export interface CallContext {
  readonly engine: Engine
  readonly admission: Admission
  readonly budget: MemoryBudget
  /** The largest message, and so the largest result, in bytes. */
  readonly maxMessageBytes: number
}

/** A client whose rules are known. */
export interface KnownClient extends Client {
  readonly principal: Principal
}

/** What a request asks for. */
export interface CallsRequest extends JobRequest {
  readonly pool: string
  /** A farpool.v1.OnError. */
  readonly onError: number
}

export interface JobTarget {
  readonly pool: EnginePool
  readonly job: Job
}

/**
 * The pool and the job that a request asks for.
 * @throws Failure POOL_NOT_FOUND, PERMISSION_DENIED, FUNCTION_NOT_FOUND, BAD_REQUEST.
 */
export function resolveJob(context: CallContext, request: CallsRequest, client: KnownClient): JobTarget {
  const { onError } = request
  if (OnError[onError] === undefined) {
    throw new Failure('BAD_REQUEST', `on_error is ${onError}; it must be 0 to 2, see farpool.v1.OnError`)
  }
  const { principal } = client
  const pool = context.engine.pool(request.pool, principal)
  const { functions } = pool
  const name = request.function
  const { rules } = principal
  // Looked at here, because most calls are without rules.
  if ((rules !== NO_RULES || name === functions.initializer) && !mayCall(name, rules, functions)) throw notAllowed(name)
  const info = functions.byName.get(name)
  if (!info) throw callable(functions, rules).unknown(name)
  const failFast = onError === OnError.ON_ERROR_FAIL_FAST
  return { pool, job: jobOf(request, client, failFast, { info, runTimeoutMs: pool.options.runTimeoutMs }) }
}

/** How many tasks of an identity wait, in all pools. */
export const waitingTasks = ({ engine }: CallContext, identity: Identity): number =>
  engine.pools.reduce((sum, pool) => sum + pool.waiting(identity), 0)

/** What an open call counts in the budget besides its arguments: its objects, until the garbage collector runs. */
const CALL_BYTES = 4 * 1024

/** One call of a request or a stream: a task to be. */
export interface CallTask {
  /** Unique among the open calls. */
  readonly id: number
  /** Its own arguments; none for a chunk. */
  readonly args?: readonly Uint8Array[] | undefined
  /** The items of a chunk; none for a single call. */
  readonly chunk?: Uint8Array | undefined
}

interface OpenCall {
  readonly pool: EnginePool
  readonly task: Task
  readonly timeout: GroupTimeout | undefined
}

/** The calls of one request, or of one stream, that have no outcome yet. */
export class OpenCalls implements TaskOwner {
  readonly #calls = new Map<number, OpenCall>()
  #bytes = 0

  /** @param onOutcome is called for each call that was not dropped, once. */
  constructor(
    private readonly principal: Principal,
    private readonly maxResultBytes: number,
    private readonly onOutcome: (id: number, outcome: Outcome) => void,
  ) {}

  get size(): number {
    return this.#calls.size
  }

  /** Whether any of them runs. */
  get phase(): Phase {
    for (const { task } of this.#calls.values()) if (task.started) return 'running'
    return 'queued'
  }

  /** What they count in the budget. */
  get bytes(): number {
    return this.#bytes
  }

  /** The pools that they are in. */
  get pools(): ReadonlySet<EnginePool> {
    return new Set([...this.#calls.values()].map(({ pool }) => pool))
  }

  /** @param isHeld see TaskRequest. @throws Failure if the pool refuses the task. */
  submit({ pool, job }: JobTarget, { id, args, chunk }: CallTask, isHeld: boolean, timeout?: GroupTimeout): void {
    const task = pool.submit({ job, args, chunk, owner: this, key: id, isHeld })
    // A worker may have taken it already, but its outcome comes in a later turn.
    this.#calls.set(id, { pool, task, timeout })
    this.#bytes += task.bytes + CALL_BYTES
    timeout?.add(id)
  }

  /** Ends a call. Its outcome is a failure with this reason. */
  end(id: number, reason: Failure): void {
    const call = this.#calls.get(id)
    call?.pool.end(call.task, reason)
  }

  endAll(reason: Failure): void {
    for (const id of [...this.#calls.keys()]) this.end(id, reason)
  }

  /** Ends a call for which nobody waits any more. It has no outcome. */
  drop(id: number, reason: Failure): void {
    const call = this.#remove(id)
    call?.pool.end(call.task, reason)
  }

  dropAll(reason: Failure): void {
    for (const id of [...this.#calls.keys()]) this.drop(id, reason)
  }

  settled(id: number, outcome: Outcome): void {
    if (this.#remove(id)) this.onOutcome(id, this.#withinMessage(outcome))
  }

  #remove(id: number): OpenCall | undefined {
    const call = this.#calls.get(id)
    if (!call) return undefined
    this.#calls.delete(id)
    this.#bytes -= call.task.bytes + CALL_BYTES
    call.timeout?.remove(id)
    if (this.principal.paused.size > 0) this.principal.resume()
    return call
  }

  /** A result that no message can carry is a failure of its call, not of the stream or request that would carry it. */
  #withinMessage(outcome: Outcome): Outcome {
    if (!outcome.ok || outcome.payload.length <= this.maxResultBytes) return outcome
    const message = `the result takes ${outcome.payload.length} bytes; a message carries at most ${this.maxResultBytes}`
    return { ok: false, failure: new Failure('RESULT_TOO_LARGE', message) }
  }
}

/** One timer for all calls of a group, which share their timeout. It ends with the last of them. */
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

/** The failures of a call or chunk, as every reply carries them: one for the whole chunk, or one for each failed item. */
export function itemFailures(chunk: number, outcome: Outcome): ItemFailure[] {
  if (!outcome.ok) return [{ chunk, item: undefined, status: failureToStatus(outcome.failure) }]
  return outcome.failures.map(({ item, failure }) => ({ chunk, item, status: failureToStatus(failure) }))
}
