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
import { callable, mayCall } from '../auth/rules.js'
import type { Call } from '../grpc/adapter.js'
import type { RpcContext } from './rpc-context.js'

export async function getServerInfo(
  { engine, maxMessageBytes, version }: RpcContext,
  request: GetServerInfoRequest,
  { caller }: Call,
): Promise<GetServerInfoResponse> {
  const pool = engine.pool(request.pool, caller.principal)
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
  { caller }: Call,
): Promise<ListFunctionsResponse> {
  const { functions } = engine.pool(request.pool, caller.principal)
  return { functions: callable(functions, caller.principal.rules).all }
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

export async function getPool(
  { engine }: RpcContext,
  request: GetPoolRequest,
  { caller: { principal } }: Call,
): Promise<GetPoolResponse> {
  const pool = engine.pool(request.pool, principal)
  const isVisible = (name: string) => mayCall(name, principal.rules, pool.functions)
  const { state } = pool
  const { queued, queuedBytes, running, submitted, succeeded, failed, cancelled, retried, timedOut, workersStarted } =
    pool.stats
  return {
    pool: pool.name,
    shared: engine.isShared(pool),
    state: POOL_STATES[state.kind],
    failure: state.kind === 'failed' || state.kind === 'broken' ? failureToStatus(state.failure) : undefined,
    processes: pool.options.processes,
    workers: pool.workers.map(({ phase, function: name, ...worker }) => ({
      ...worker,
      // Another caller may run what this one is not to know.
      function: isVisible(name) ? name : '',
      state: WORKER_STATES[phase],
    })),
    queued,
    queuedBytes,
    running,
    tasks: { submitted, succeeded, failed, cancelled, retried, timedOut },
    workersStarted,
  }
}
