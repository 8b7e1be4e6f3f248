import { Failure } from '../../wire/failure.js'
import { RETRY_MS } from '../../wire/limits.js'
import type { TaskQueue } from './queue.js'
import type { Client } from './task.js'

/** How much may wait in a pool. */
export interface QueueLimits {
  /** Tasks of all clients, and of one. */
  readonly maxQueued: number
  readonly maxQueuedPerClient: number
  /** Bytes of the arguments of all that wait. */
  readonly maxQueuedBytes: number
}

/** Whether a queue has room for one more. What is already over a limit by one request's worth is let be. */
export class Room {
  constructor(
    private readonly queue: TaskQueue,
    private readonly limits: QueueLimits,
  ) {}

  /** Throws QUEUE_FULL, which says what is full. */
  check(client: Client): void {
    const { queue, limits } = this
    if (queue.size >= limits.maxQueued) throw full(queue.size, 'tasks', limits.maxQueued, 'pool')
    if (queue.bytes >= limits.maxQueuedBytes) throw full(queue.bytes, 'bytes', limits.maxQueuedBytes, 'pool')
    // A stream of calls is not refused but read no further (rpc/calls.ts). And no client has more than all have.
    if ((typeof client !== 'string' && client.isHeldBack) || queue.size < limits.maxQueuedPerClient) return
    const mine = queue.sizeOf(client)
    if (mine >= limits.maxQueuedPerClient) throw full(mine, 'tasks', limits.maxQueuedPerClient, 'client')
  }
}

function full(waiting: number, what: 'tasks' | 'bytes', limit: number, of: 'pool' | 'client'): Failure {
  const whose = of === 'pool' ? 'in the pool' : 'of this client'
  return new Failure('QUEUE_FULL', `${waiting} ${what} ${whose} wait already; at most ${limit} may. Try again later`, {
    retryDelayMs: RETRY_MS,
    metadata: { limit: String(limit), of, what },
  })
}
