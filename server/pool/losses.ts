import { BEGIN_ATTEMPTS } from '../../wire/limits.js'
import type { Crew, Slot } from './crew.js'
import type { Edges } from './edges.js'
import type { Ledger } from './ledger.js'
import type { Life } from './life.js'
import type { TaskQueue } from './queue.js'
import { crash, neverBegins, type WorkerExit } from './state.js'
import type { Task } from './task.js'

/** What becomes of the tasks in the hand of a worker that has died (P6). */
export class Losses {
  constructor(
    private readonly queue: TaskQueue,
    private readonly crew: Crew,
    private readonly ledger: Ledger,
    private readonly life: Life,
    private readonly edges: Edges,
  ) {}

  take(slot: Slot, exit: WorkerExit): void {
    const { first } = slot.hand
    for (const task of [...slot.hand].reverse()) {
      if (task.settled) continue
      if (task.started) this.#crashed(task, exit)
      else if (task === first && this.#isFatal(slot, task)) this.ledger.fail(task, neverBegins(task, exit))
      else this.queue.unshift(task)
    }
    slot.hand.leave()
  }

  #crashed(task: Task, exit: WorkerExit): void {
    const failure = crash(task, exit)
    if (!this.life.runs || task.attempt > task.job.retries) return this.ledger.fail(task, failure)
    this.ledger.retry(task, failure)
    this.queue.unshift(task)
    this.edges.waits(task)
  }

  /**
   * Whether workers die of being given the task (of its size, say). Only such count as were started after the last that did:
   * whatever ends all workers at once is not the task's fault.
   */
  #isFatal(slot: Slot, task: Task): boolean {
    if (slot.id <= task.fatalUpTo) return false
    task.fatalUpTo = this.crew.started
    return ++task.fatalities >= BEGIN_ATTEMPTS
  }
}
