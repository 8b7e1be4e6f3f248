import type { Failure } from '../../wire/failure.js'
import { failed, type Job, type Outcome, type Owner, Task } from './task.js'

/** The tasks that a pool has accepted: how many, and what became of them. Each is settled once. */
export class Ledger {
  readonly counters = { submitted: 0, succeeded: 0, failed: 0, cancelled: 0, retried: 0 }
  #next = 1
  #open = 0

  /** How many have not been settled. */
  get open(): number {
    return this.#open
  }

  accept(
    job: Job,
    args: readonly Uint8Array[] | undefined,
    chunk: Uint8Array | undefined,
    owner: Owner,
    key: number,
  ): Task {
    this.counters.submitted++
    this.#open++
    return new Task(this.#next++, job, args, chunk, owner, key)
  }

  /** A worker has said what became of it. */
  done(task: Task, outcome: Outcome): void {
    this.#settle(task, outcome, outcome.ok ? 'succeeded' : 'failed')
  }

  fail(task: Task, failure: Failure): void {
    this.#settle(task, failed(failure), 'failed')
  }

  cancel(task: Task, failure: Failure): void {
    this.#settle(task, failed(failure), 'cancelled')
  }

  /** It is run again, in spite of this. */
  retry(task: Task, crash: Failure): void {
    task.attempt++
    task.crash = crash
    task.waitsUntil = 0
    task.itemsDone = 0
    task.putBack()
    this.counters.retried++
  }

  #settle(task: Task, outcome: Outcome, as: 'succeeded' | 'failed' | 'cancelled'): void {
    if (task.settled) return
    this.counters[as]++
    this.#open--
    task.settle(outcome)
  }
}
