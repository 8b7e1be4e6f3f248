import { type GetPoolResponse, PoolState, WorkerState } from '../../proto/gen/farpool/v1/pool_service.js'
import { statusToFailure } from '../../wire/failure.js'
import type { PoolView } from './transport.js'

const POOL_STATES: Readonly<Record<number, PoolView['state']>> = {
  [PoolState.POOL_STATE_OPEN]: 'open',
  [PoolState.POOL_STATE_CLOSING]: 'closing',
  [PoolState.POOL_STATE_CLOSED]: 'closed',
  [PoolState.POOL_STATE_TERMINATED]: 'terminated',
  [PoolState.POOL_STATE_FAILED]: 'failed',
  [PoolState.POOL_STATE_BROKEN]: 'broken',
}

const WORKER_STATES: Readonly<Record<number, PoolView['workers'][number]['state']>> = {
  [WorkerState.WORKER_STATE_STARTING]: 'starting',
  [WorkerState.WORKER_STATE_IDLE]: 'idle',
  [WorkerState.WORKER_STATE_BUSY]: 'busy',
  [WorkerState.WORKER_STATE_STOPPING]: 'stopping',
}

/** A server's answer to GetPool. */
export const poolViewOf = ({ state, failure, workers, tasks, ...rest }: GetPoolResponse): PoolView => ({
  ...rest,
  state: POOL_STATES[state] ?? 'unknown',
  failure: failure && statusToFailure(failure),
  workers: workers.map((worker) => ({ ...worker, state: WORKER_STATES[worker.state] ?? 'unknown' })),
  tasks: tasks ?? { submitted: 0, succeeded: 0, failed: 0, cancelled: 0, retried: 0, timedOut: 0 },
})
