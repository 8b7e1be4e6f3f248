import { PoolState, WorkerState } from '../proto/gen/farpool/v1/pool_service.js'
import { statusToFailure } from '../wire/failure.js'
import type { Target } from './backing.js'
import { errorOf, type FarpoolError, toError } from './errors.js'
import type { Transport } from './transport/transport.js'

/** A function that is registered on the server. */
export interface FunctionInfo {
  name: string
  /** The number of parameters before the first one that has a default. */
  parameters: number
  /** The file name of the function's module. */
  module: string
  /** How often a call is run again if its worker dies, unless the call says otherwise (`configure` of farpool/worker). */
  retries: number
  /** How long the function may run, in milliseconds; 0 for the server's limit. */
  runTimeoutMs: number
  /** The function's process is not killed when a call is cancelled or times out. */
  neverKilled: boolean
}

/** A pool and its server at one moment. Sizes are in bytes, times in milliseconds. */
export interface PoolInfo {
  server: { version: string; runtime: string; maxMessageBytes: number; graceMs: number }
  /** The name of the pool. */
  pool: string
  /** Whether it is the server's shared pool. */
  shared: boolean
  state: 'open' | 'closing' | 'closed' | 'terminated' | 'failed' | 'broken' | 'unknown'
  /** The reason for which a failed or broken pool takes no calls; otherwise undefined. */
  failure: FarpoolError | undefined
  processes: number
  workers: {
    pid: number
    state: 'starting' | 'idle' | 'busy' | 'stopping' | 'unknown'
    /** How many tasks the worker has run. */
    tasks: number
    /** The function that the worker is running; empty if there is none. */
    function: string
  }[]
  queued: number
  queuedBytes: number
  running: number
  /** Counted since the pool was opened. */
  tasks: { submitted: number; succeeded: number; failed: number; cancelled: number; retried: number }
  workersStarted: number
}

const POOL_STATES: Readonly<Record<number, PoolInfo['state']>> = {
  [PoolState.POOL_STATE_OPEN]: 'open',
  [PoolState.POOL_STATE_CLOSING]: 'closing',
  [PoolState.POOL_STATE_CLOSED]: 'closed',
  [PoolState.POOL_STATE_TERMINATED]: 'terminated',
  [PoolState.POOL_STATE_FAILED]: 'failed',
  [PoolState.POOL_STATE_BROKEN]: 'broken',
}

const WORKER_STATES: Readonly<Record<number, PoolInfo['workers'][number]['state']>> = {
  [WorkerState.WORKER_STATE_STARTING]: 'starting',
  [WorkerState.WORKER_STATE_IDLE]: 'idle',
  [WorkerState.WORKER_STATE_BUSY]: 'busy',
  [WorkerState.WORKER_STATE_STOPPING]: 'stopping',
}

export async function functionInfos(transport: Transport): Promise<FunctionInfo[]> {
  const { functions } = await transport.functions().catch(rethrow)
  return functions
}

export async function poolInfo(transport: Transport, target: Promise<Target>): Promise<PoolInfo> {
  const read = async () => {
    const { pool } = await target
    return Promise.all([transport.serverInfo(), transport.poolInfo(pool)])
  }
  const [server, pool] = await read().catch(rethrow)
  const { version, runtime, maxMessageBytes, graceMs } = server
  const { state, failure, workers, tasks, ...rest } = pool
  return {
    ...rest,
    server: { version, runtime, maxMessageBytes, graceMs },
    state: POOL_STATES[state] ?? 'unknown',
    failure: failure && errorOf(statusToFailure(failure)),
    workers: workers.map((worker) => ({ ...worker, state: WORKER_STATES[worker.state] ?? 'unknown' })),
    tasks: tasks ?? { submitted: 0, succeeded: 0, failed: 0, cancelled: 0, retried: 0 },
  }
}

const rethrow = (error: unknown): never => {
  throw toError(error)
}
