import { Failure } from '../../wire/failure.js'
import type { Task } from './task.js'

/** Whether a pool takes tasks. */
export type PoolState =
  | { readonly kind: 'open' }
  /** Accepts nothing; completes what it has accepted. */
  | { readonly kind: 'closing' }
  | { readonly kind: 'closed' }
  | { readonly kind: 'terminated' }
  /** Its workers cannot start. What was running is completed, all else fails with this failure. */
  | { readonly kind: 'failed'; readonly failure: Failure }

/** How a worker process ended. */
export interface WorkerExit {
  readonly pid: number
  readonly exitCode: number | undefined
  readonly signal: string | undefined
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
      return state.failure
    case 'terminated':
      return new Failure('POOL_CLOSED', 'the pool has been terminated; open a new one')
    case 'closing':
    case 'closed':
      return new Failure('POOL_CLOSED', 'the pool is closed and takes no more calls; open a new one')
  }
}

/** How a worker ended, as the end of a sentence. */
export function describeExit(exit: WorkerExit): string {
  if (exit.error) return `could not be started: ${exit.error}`
  return exit.signal ? `was killed by ${exit.signal}` : `exited with code ${exit.exitCode ?? 'unknown'}`
}

/** The failure of a task whose worker died while it ran. */
export function crash(task: Task, exit: WorkerExit): Failure {
  const message = `the worker (pid ${exit.pid}) that ran ${task.job.function} ${describeExit(exit)}`
  return new Failure('WORKER_CRASHED', message, {
    metadata: {
      pid: String(exit.pid),
      attempt: String(task.attempt),
      ...(exit.exitCode === undefined ? {} : { exit_code: String(exit.exitCode) }),
      ...(exit.signal === undefined ? {} : { signal: exit.signal }),
    },
  })
}
