import type { Failure } from '../../wire/failure.js'
import type { Task } from './task.js'

/** What the scheduler asks for. None may call back into the scheduler before it returns. */
export interface Edges {
  /** Start a worker; the name is given by the scheduler. `delayMs` > 0 after one that died while it started. */
  spawn(worker: number, delayMs: number): void
  /** Run these, one after another; `beginBy`: their lease, 0 for none. */
  run(worker: number, tasks: readonly Task[], beginBy: number): void
  /** A task waits again: its worker has died, or has not begun it. */
  waits(task: Task): void
  /** A task begins, for all that is known here. */
  began(task: Task): void
  /** The task has been ended from outside. */
  abort(worker: number, task: Task, reason: Failure): void
  /** It may be running a task that was ended: if it does not say done within the grace, it is to be killed. */
  overdue(worker: number): void
  /** End after what it does now. */
  stop(worker: number): void
  kill(worker: number): void
  /** The pool has reached an end state and its last worker is gone. */
  ended(): void
}
