import type { Failure } from '../../wire/failure.js'
import type { PoolState, WorkerExit } from './pool-state.js'
import type { Outcome, Task } from './task.js'

/**
 * What the scheduler asks of the world. pool.ts implements it with real processes and timers, a unit test with a list
 * of words. No method may call back into the scheduler before it returns.
 */
export interface SchedulerEffects {
  /** Start a worker process. The scheduler chooses the number; `delayMs` > 0 after workers that died early. */
  spawn(worker: number, delayMs: number): void
  /** Send tasks to a worker, which runs them in this order. `beginBy`: see Task.beginBy. */
  run(worker: number, tasks: readonly Task[], beginBy: number): void
  /** The task is in the queue again: its worker died or handed it back. Its queue timeout goes on. */
  waits(task: Task): void
  /** The task runs now, as far as the scheduler knows. Its run timeout begins. */
  began(task: Task): void
  /** The task was ended from outside. The worker must fire its abort signal, or skip it. */
  abort(worker: number, task: Task, reason: Failure): void
  /** The worker may still run a task that was ended: kill it unless it reports `done` within the grace. */
  overdue(worker: number): void
  /** Let the worker exit after its current task. */
  stop(worker: number): void
  kill(worker: number): void
  /** The pool is closed, terminated or failed, and its last worker is gone. Called once. */
  ended(): void
}

/** How a task ended: `timedOut` by a limit of its time, `cancelled` by any other reason from outside. */
export type SettledAs = 'succeeded' | 'failed' | 'cancelled' | 'timedOut'

/** A change of one task. `worker` is the scheduler's number of the worker. */
export type TaskEvent =
  | { readonly kind: 'submitted'; readonly task: Task }
  /** Sent to a worker: as the one that it runs, or ahead of time (`prefetched`). */
  | { readonly kind: 'assigned'; readonly task: Task; readonly worker: number; readonly prefetched: boolean }
  | { readonly kind: 'started'; readonly task: Task; readonly worker: number }
  /** Back in the queue, not begun: its begin-by time passed, or its worker died before it began. */
  | { readonly kind: 'handed-back'; readonly task: Task; readonly worker: number }
  /** Back in the queue for another attempt: its worker died while running it. */
  | { readonly kind: 'retried'; readonly task: Task; readonly worker: number; readonly crash: Failure }
  /** Its owner has the outcome. `ranMs`: the run time that the worker reported; undefined if it did not finish. */
  | {
      readonly kind: 'settled'
      readonly task: Task
      readonly as: SettledAs
      readonly outcome: Outcome
      readonly ranMs: number | undefined
    }

/** A change of one worker. */
export type WorkerEvent =
  | { readonly kind: 'starting'; readonly worker: number; readonly delayMs: number }
  | { readonly kind: 'ready'; readonly worker: number; readonly pid: number }
  /** The system had no room for a process, or its modules or initializer failed. */
  | { readonly kind: 'start-failed'; readonly worker: number; readonly error: string }
  /** `task`: the one that it ran. */
  | { readonly kind: 'exited'; readonly worker: number; readonly exit: WorkerExit; readonly task: Task | undefined }

/**
 * Sees every change of a pool: metrics, traces, the log, the lease of an owned pool. Each method is called right after
 * the change, must return quickly, and must not call the pool. A method that an observer lacks costs nothing: the pool
 * does not even make the event.
 */
export interface Observer {
  task?(event: TaskEvent): void
  worker?(event: WorkerEvent): void
  /** The pool entered another state: broken, failed, or open again. */
  state?(state: PoolState): void
}

/** One observer that passes events on to several. It has only the methods that at least one of them has. */
export function observeAll(observers: readonly Observer[]): Observer {
  const tasks = observers.filter(({ task }) => task)
  const workers = observers.filter(({ worker }) => worker)
  const states = observers.filter(({ state }) => state)
  return {
    ...(tasks.length > 0 && { task: (event: TaskEvent) => tasks.forEach((observer) => void observer.task?.(event)) }),
    ...(workers.length > 0 && {
      worker: (event: WorkerEvent) => workers.forEach((observer) => void observer.worker?.(event)),
    }),
    ...(states.length > 0 && {
      state: (state: PoolState) => states.forEach((observer) => void observer.state?.(state)),
    }),
  }
}
