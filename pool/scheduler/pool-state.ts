import { Failure } from '../../wire/failure.js'
import { RETRY_MS } from '../../wire/protocol.js'
import type { Task } from './task.js'

/** Whether a pool accepts tasks. The transitions are drawn in scheduler.ts. */
export type PoolState =
  | { readonly kind: 'open' }
  /** Accepts no new tasks; completes the ones that it has. */
  | { readonly kind: 'closing' }
  | { readonly kind: 'closed' }
  | { readonly kind: 'terminated' }
  /** Its workers keep dying before they are ready. Every call fails with this failure; the pool keeps trying to start a worker. */
  | { readonly kind: 'broken'; readonly failure: Failure }
  /** Its workers never could start. Running tasks complete, everything else fails with this failure. */
  | { readonly kind: 'failed'; readonly failure: Failure }

export type WorkerPhase = 'starting' | 'idle' | 'busy' | 'stopping'

/** How a worker process ended. */
export interface WorkerExit {
  /** 0 if it never was a process. */
  readonly pid: number
  readonly exitCode: number | undefined
  readonly signal: string | undefined
  /** It ran out of memory: of its own V8 heap, or of the machine's or container's memory (the kernel killed it). */
  readonly oom?: 'heap' | 'kernel' | undefined
  /** Why the pool killed it on the pool's own initiative (watchdog, protocol error). */
  readonly why?: string | undefined
  /** The error that nothing in it caught, as the worker reported it before it died. */
  readonly uncaught?: Failure | undefined
  /** The pool had told it to stop, or killed it for the sake of a task. */
  readonly expected?: boolean
  /** Why it could not be started at all. */
  readonly error?: string
}

/** The failure of a task that is submitted to a pool in this state. */
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

/** The failure of a task whose pool was terminated. @param how what happened to the pool, for the message. */
export function terminated({ job }: Task, started: boolean | 'unknown', how: string): Failure {
  const message = `the pool ${how} while ${job.function} was ${started === true ? 'running' : 'waiting'}`
  return new Failure('POOL_TERMINATED', message, { started })
}

export const noWorkers = (deaths: number, exit: WorkerExit): Failure =>
  new Failure(
    'NO_WORKERS',
    `${deaths} workers in a row died before they were ready; the last one ${describeExit(exit)}`,
    {
      retryDelayMs: RETRY_MS,
      ...(exit.uncaught?.remote && { remote: exit.uncaught.remote }),
    },
  )

/** The failure of a task whose worker died while it ran. */
export function crash({ id, job, attempt, itemsDone, chunk }: Task, exit: WorkerExit): Failure {
  const message = `the worker (pid ${exit.pid}) that ran ${job.function} ${describeExit(exit)}`
  const remote = exit.uncaught?.remote
  return new Failure(exit.oom ? 'WORKER_OOM' : 'WORKER_CRASHED', message, {
    ...(remote && { remote }),
    metadata: {
      pid: String(exit.pid),
      function: job.function,
      task: String(id),
      attempt: String(attempt),
      ...(exit.exitCode === undefined ? {} : { exit_code: String(exit.exitCode) }),
      ...(exit.signal === undefined ? {} : { signal: exit.signal }),
      ...(exit.oom && { memory: exit.oom }),
      ...(chunk && { items_done: String(itemsDone) }),
    },
  })
}

/** The failure of a task that waits for a retry in a pool that can run nothing any more. It has run, so it counts as crashed. */
export const notRunAgain = ({ reason, message, metadata, remote }: Failure, why: Failure): Failure =>
  new Failure(reason, `${message}; it did not run again: ${why.message}`, { metadata, ...(remote && { remote }) })

/** The failure of a task that kills workers before it begins. It counts as begun, so that no client sends it again. */
export function neverBegins(task: Task, exit: WorkerExit): Failure {
  const { reason, metadata, remote } = crash(task, exit)
  const message = `${task.fatalWorkers} workers in a row died when they were given ${task.job.function}; the last one`
  return new Failure(reason, `${message} (pid ${exit.pid}) ${describeExit(exit)}`, {
    metadata,
    ...(remote && { remote }),
  })
}

/** How a worker ended, as the end of a sentence. */
export function describeExit({ error, oom, why, signal, exitCode, uncaught }: WorkerExit): string {
  if (error) return `could not be started: ${error}`
  if (oom === 'heap')
    return 'ran out of heap (a larger --max-heap-mb, or maxHeapMb of a local pool, gives its functions more)'
  if (oom === 'kernel') return 'was killed by the kernel: the machine or its container is out of memory'
  if (why) return `was killed: ${why}`
  const ended = signal ? `was killed by ${signal}` : `exited with code ${exitCode ?? 'unknown'}`
  return uncaught ? `${ended} after ${uncaught.message}` : ended
}
