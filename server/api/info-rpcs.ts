import {
  type GetPoolRequest,
  type GetPoolResponse,
  type GetServerInfoRequest,
  type GetServerInfoResponse,
  type ListFunctionsRequest,
  type ListFunctionsResponse,
  PoolState,
  WorkerState,
} from '../../proto/gen/farpool/v1/pool_service.js'
import { failureToStatus } from '../../wire/failure.js'
import type { RpcContext } from './rpc-context.js'

export async function getServerInfo(
  { engine, maxMessageBytes, version }: RpcContext,
  request: GetServerInfoRequest,
): Promise<GetServerInfoResponse> {
  const pool = engine.pool(request.pool)
  return {
    version,
    runtime: pool.runtime,
    processes: pool.options.processes,
    maxMessageBytes,
    graceMs: pool.options.graceMs,
    runTimeoutMs: pool.options.runTimeoutMs,
    maxQueued: pool.options.limits.maxQueued,
    maxQueuedPerClient: pool.options.limits.maxQueuedPerClient,
    pools: engine.shared.map(({ name }) => name),
  }
}

export async function listFunctions(
  { engine }: RpcContext,
  request: ListFunctionsRequest,
): Promise<ListFunctionsResponse> {
  return { functions: engine.pool(request.pool).functions.all }
}

const POOL_STATES = {
  open: PoolState.POOL_STATE_OPEN,
  closing: PoolState.POOL_STATE_CLOSING,
  closed: PoolState.POOL_STATE_CLOSED,
  terminated: PoolState.POOL_STATE_TERMINATED,
  failed: PoolState.POOL_STATE_FAILED,
  broken: PoolState.POOL_STATE_BROKEN,
} as const

const WORKER_STATES = {
  starting: WorkerState.WORKER_STATE_STARTING,
  idle: WorkerState.WORKER_STATE_IDLE,
  busy: WorkerState.WORKER_STATE_BUSY,
  stopping: WorkerState.WORKER_STATE_STOPPING,
} as const

export async function getPool({ engine }: RpcContext, request: GetPoolRequest): Promise<GetPoolResponse> {
  const pool = engine.pool(request.pool)
  const { state } = pool
  const { queued, queuedBytes, running, submitted, succeeded, failed, cancelled, retried, timedOut, workersStarted } =
    pool.stats
  return {
    pool: pool.name,
    shared: engine.isShared(pool),
    state: POOL_STATES[state.kind],
    failure: state.kind === 'failed' || state.kind === 'broken' ? failureToStatus(state.failure) : undefined,
    processes: pool.options.processes,
    workers: pool.workers.map(({ phase, ...worker }) => ({ ...worker, state: WORKER_STATES[phase] })),
    queued,
    queuedBytes,
    running,
    tasks: { submitted, succeeded, failed, cancelled, retried, timedOut },
    workersStarted,
  }
}
