import type { Failure } from '../wire/failure.js'
import type { FunctionTable } from './function-table.js'
import type { WorkerTimes } from './process/worker-handle.js'
import type { Observer } from './scheduler/effects.js'
import type { PoolState, WorkerPhase } from './scheduler/pool-state.js'
import type { QueueLimits } from './scheduler/scheduler.js'
import type { Identity, Task, TaskRequest } from './scheduler/task.js'

/** The shared pool that every server has. In requests, an empty name means it too. */
export const DEFAULT_POOL = 'default'

/**
 * What runs tasks: the seam between the RPCs and the pools. The RPCs (server/api, server/session) call it and know
 * nothing else of a pool. `Pools` implements it with worker processes on this machine; an engine that spreads tasks over
 * many hosts can take its place. An engine never decodes a payload, never blocks, and throws only Failures.
 */
export interface Engine {
  /** Every pool that has not ended. */
  readonly pools: readonly EnginePool[]
  /** The pools that all clients may use, the one named `default` first. */
  readonly shared: readonly EnginePool[]
  /**
   * @param name empty for the pool `default`.
   * @param caller an owned pool is there for its owner only.
   * @throws Failure POOL_NOT_FOUND, or why an owned pool of that name has ended.
   */
  pool(name: string, caller: Identity): EnginePool
  isShared(pool: EnginePool): boolean
  /** Whether this was an owned pool of the caller that has ended. */
  hasEnded(name: string, caller: Identity): boolean
  /**
   * Opens an owned pool. The caller must `release` it.
   * @param observer sees the changes of this pool.
   * @throws Failure BAD_REQUEST, POOL_NOT_FOUND, FUNCTION_NOT_FOUND, QUEUE_FULL.
   */
  open(options: OwnedPoolOptions, owner: Identity, observer: Observer): EnginePool
  /** Terminates an owned pool; resolves when its workers are gone. */
  release(pool: EnginePool): Promise<void>
}

/** One pool of an engine. */
export interface EnginePool {
  readonly name: string
  readonly options: EnginePoolOptions
  /** The functions that can be called in it. */
  readonly functions: FunctionTable
  readonly state: PoolState
  readonly stats: PoolStats
  readonly workers: readonly WorkerView[]
  /** What runs the functions, for example "node v24.11.0"; empty until a worker is ready. */
  readonly runtime: string
  /** Resolves when the pool is closed, terminated or failed, and its last worker is gone. */
  readonly ended: Promise<void>
  /** Accepts a task; its owner is told the outcome exactly once. @throws Failure if the pool refuses it. */
  submit(request: TaskRequest): Task
  /** How many tasks of all clients of this identity wait. */
  waiting(identity: Identity): number
  /** Ends a task with a reason, whatever it is doing. A settled task stays as it is. */
  end(task: Task, reason: Failure): void
  /** Keeps a closing pool open for a request that brings its tasks over time, until the returned function is called. */
  hold(): () => void
  /** A client is no longer full: its tasks may begin. */
  resume(): void
  /** Accepts no more tasks, completes the ones that it has, then ends its workers. */
  close(): void
  /**
   * Cancels every task and kills every worker; resolves when they are gone.
   * @param how what happens to the pool, for the failures of its tasks. Default: `was terminated`.
   */
  terminate(how?: string): Promise<void>
}

export interface EnginePoolOptions extends WorkerTimes {
  readonly processes: number
  /** How long a task may run if neither its call nor its function says, in milliseconds; 0 for no limit. */
  readonly runTimeoutMs: number
  readonly limits: QueueLimits
}

export interface PoolStats {
  readonly queued: number
  readonly queuedBytes: number
  readonly running: number
  readonly workersStarted: number
  readonly submitted: number
  readonly succeeded: number
  readonly failed: number
  readonly cancelled: number
  readonly retried: number
  readonly timedOut: number
}

export interface WorkerView {
  readonly pid: number
  readonly phase: WorkerPhase
  /** Tasks that it has finished. */
  readonly tasks: number
  /** The function that it runs; empty for none. */
  readonly function: string
}

/** What the caller of OpenPool chooses. */
export interface OwnedPoolOptions {
  /** The shared pool that it is made from: with its modules and its settings. Empty for the pool `default`. */
  readonly sharedPool: string
  /** undefined for as many as the shared pool has. */
  readonly processes: number | undefined
  /** The name of a function; empty for none. */
  readonly initializer: string
  readonly initargs: readonly Uint8Array[]
  readonly maxTasksPerChild: number | undefined
}
