import { PoolState, WorkerState } from '../proto/gen/farpool/v1/pool_service.js'
import { statusToFailure } from '../wire/failure.js'
import type { Target } from './backing.js'
import { toError } from './calls.js'
import { errorOf, type FarpoolError } from './errors.js'
import type { Transport } from './transport/transport.js'

/** A registered function. */
export interface FunctionInfo {
  name: string
  /** How many parameters it declares before the first one with a default. */
  parameters: number
  /** The file name of its module. */
  module: string
  /** What its module says about it: see FunctionOptions of farpool/worker. Milliseconds; 0 for the server's limit. */
  retries: number
  runTimeoutMs: number
  neverKilled: boolean
}

/** A pool as GetPool tells of it, and its server. */
export interface PoolInfo {
  server: { version: string; runtime: string; maxMessageBytes: number; graceMs: number }
  pool: string
  shared: boolean
  state: 'open' | 'closing' | 'closed' | 'terminated' | 'failed' | 'broken' | 'unknown'
  /** Why it takes no calls, where it failed or is broken. */
  failure: FarpoolError | undefined
  processes: number
  workers: {
    pid: number
    state: 'starting' | 'idle' | 'busy' | 'stopping' | 'unknown'
    tasks: number
    function: string
  }[]
  queued: number
  queuedBytes: number
  running: number
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
