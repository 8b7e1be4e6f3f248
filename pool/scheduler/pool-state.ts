import { Failure } from '../../wire/failure.js'
import { RETRY_MS } from '../../wire/protocol.js'
import type { Task } from './task.js'

/** Whether a pool takes tasks. */
export type PoolState =
  | { readonly kind: 'open' }
  /** Accepts nothing; completes what it has accepted. */
  | { readonly kind: 'closing' }
  | { readonly kind: 'closed' }
  | { readonly kind: 'terminated' }
  /** Its workers have come to die as soon as they start. All calls fail with this failure; it goes on trying to start one. */
  | { readonly kind: 'broken'; readonly failure: Failure }
  /** Its workers cannot start. What was running is completed, all else fails with this failure. */
  | { readonly kind: 'failed'; readonly failure: Failure }

/** How a worker process ended. */
export interface WorkerExit {
  readonly pid: number
  readonly exitCode: number | undefined
  readonly signal: string | undefined
  /** It died for want of memory: its own heap's, or the machine's or container's. */
  readonly oom?: 'heap' | 'kernel' | undefined
  /** Why its pool killed it, where it did so of its own accord. */
  readonly why?: string | undefined
  /** It was told to end, or killed by its pool. */
  readonly expected?: boolean
  /** Why it could not be started at all. */
  readonly error?: string
}

/** What a worker does, as its pool sees it. */
export type WorkerPhase = 'starting' | 'idle' | 'busy' | 'stopping'

/** Why a pool in this state takes no task. */
export function refusal(state: Exclude<PoolState, { kind: 'open' }>): Failure {
  switch (state.kind) {
    case 'failed':
    case 'broken':
      return state.failure
    case 'terminated':
      return new Failure('POOL_CLOSED', 'the pool has been terminated; open a new one')
    case 'closing':
    case 'closed':
      return new Failure('POOL_CLOSED', 'the pool is closed and takes no more calls; open a new one')
  }
}

/** The failure of a task that was there when its pool was terminated. */
export function terminated({ job }: Task, started: boolean | 'unknown'): Failure {
  const message = `the pool was terminated while ${job.function} was ${started === true ? 'running' : 'waiting'}`
  return new Failure('POOL_TERMINATED', message, { started })
}

export const noWorkers = (deaths: number, exit: WorkerExit): Failure =>
  new Failure('NO_WORKERS', `${deaths} workers in a row died before they were ready; the last one ${describe(exit)}`, {
    retryDelayMs: RETRY_MS,
  })

/** The failure of a task whose worker died while it ran. */
export function crash({ job, attempt, itemsDone, chunk }: Task, exit: WorkerExit): Failure {
  const message = `the worker (pid ${exit.pid}) that ran ${job.function} ${describe(exit)}`
  return new Failure(exit.oom ? 'WORKER_OOM' : 'WORKER_CRASHED', message, {
    metadata: {
      pid: String(exit.pid),
      attempt: String(attempt),
      ...(exit.exitCode === undefined ? {} : { exit_code: String(exit.exitCode) }),
      ...(exit.signal === undefined ? {} : { signal: exit.signal }),
      ...(exit.oom && { memory: exit.oom }),
      ...(chunk && { items_done: String(itemsDone) }),
    },
  })
}

/** The failure of a task that waits for another try, which its pool cannot give it: it has run, so it has crashed. */
export const notRunAgain = ({ reason, message, metadata }: Failure, why: Failure): Failure =>
  new Failure(reason, `${message}; it did not run again: ${why.message}`, { metadata })

/** The failure of a task of which workers die before it begins. It is taken for begun: nobody shall send it again. */
export function neverBegins(task: Task, exit: WorkerExit): Failure {
  const { reason, metadata } = crash(task, exit)
  const message = `${task.fatalities} workers in a row died when they were given ${task.job.function}; the last one`
  return new Failure(reason, `${message} (pid ${exit.pid}) ${describe(exit)}`, { metadata })
}

/** How a worker ended, as the end of a sentence. */
function describe({ error, oom, why, signal, exitCode }: WorkerExit): string {
  if (error) return `could not be started: ${error}`
  if (oom === 'heap') return 'ran out of heap (a larger --max-heap-mb gives its functions more)'
  if (oom === 'kernel') return 'was killed by the kernel: the machine or its container is out of memory'
  if (why) return `was killed: ${why}`
  return signal ? `was killed by ${signal}` : `exited with code ${exitCode ?? 'unknown'}`
}
