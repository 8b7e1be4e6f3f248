import type { FairQueue, Flow } from './fair-queue.js'
import type { WorkerExit, WorkerPhase } from './pool-state.js'
import { type Estimates, RunQueue } from './run-queue.js'
import type { Task } from './task.js'

/** Longest pause before a worker replaces one that died without having done anything, and one that died in a task. */
const MAX_START_DELAY_MS = 10_000
const MAX_CRASH_DELAY_MS = 1_000

/** A worker as the scheduler sees it. */
export interface WorkerSlot {
  /** Counts up; a worker that replaces another has a larger number. */
  readonly id: number
  phase: WorkerPhase
  /** A cancelled task stays here until the worker reports `done`. */
  readonly runQueue: RunQueue
  /** Tasks that it has finished. */
  finished: number
  /** To be replaced as soon as its run queue is empty. */
  isRetiring: boolean
}

/** The workers of a pool: their phases, their run queues, and the record of early deaths. */
export class WorkerTable {
  readonly #slots = new Map<number, WorkerSlot>()
  /** The longest idle first. */
  readonly #idle = new Set<WorkerSlot>()
  #nextId = 1
  /** Workers in a row that died, or failed, before they were ready. */
  #deadStarts = 0
  /** Workers in a row that exited idle, before they had finished a task. */
  #idleExits = 0
  /** Workers in a row that died in a task, while no other finished one. */
  #crashes = 0
  #wasReady = false

  get size(): number {
    return this.#slots.size
  }

  /** How many workers there have ever been; also the number of the newest. */
  get started(): number {
    return this.#nextId - 1
  }

  /** Workers whose current task has not been cancelled. */
  get running(): number {
    let running = 0
    for (const { runQueue } of this.#slots.values()) if (runQueue.first?.settled === false) running++
    return running
  }

  get hasIdle(): boolean {
    return this.#idle.size > 0
  }

  get longestIdle(): WorkerSlot | undefined {
    for (const slot of this.#idle) return slot
    return undefined
  }

  get deadStarts(): number {
    return this.#deadStarts
  }

  /** All of the first workers became ready, so the modules and the initializer can work. */
  get wasReady(): boolean {
    return this.#wasReady
  }

  /** Some worker has prefetched tasks. */
  get hasPrefetched(): boolean {
    for (const { runQueue } of this.#slots.values()) if (runQueue.size > 1) return true
    return false
  }

  /** The pause before the next start: it grows with each early death, and with each full round of crashes in tasks. */
  startDelayMs(processes: number): number {
    const rounds = Math.floor(Math.max(0, this.#crashes - 1) / processes)
    return Math.max(
      Math.min(MAX_START_DELAY_MS, 100 * (this.#deadStarts + this.#idleExits) ** 2),
      Math.min(MAX_CRASH_DELAY_MS, 100 * rounds ** 2),
    )
  }

  get(id: number): WorkerSlot | undefined {
    return this.#slots.get(id)
  }

  [Symbol.iterator](): Iterator<WorkerSlot> {
    return this.#slots.values()
  }

  /** Adds slots until `processes` of them are not stopping. Returns the new ones, whose processes the caller starts. */
  fill(processes: number): WorkerSlot[] {
    const added: WorkerSlot[] = []
    let living = 0
    for (const { phase } of this.#slots.values()) if (phase !== 'stopping') living++
    for (; living < processes; living++) {
      const id = this.#nextId++
      const slot: WorkerSlot = { id, phase: 'starting', runQueue: new RunQueue(), finished: 0, isRetiring: false }
      this.#slots.set(id, slot)
      added.push(slot)
    }
    return added
  }

  /** Fills the run queues of busy workers evenly. Yields each worker that got tasks. */
  *prefetch(
    queue: FairQueue,
    estimates: Estimates,
    maxTasks: number | undefined,
    now: number,
  ): Iterable<readonly [WorkerSlot, readonly Task[]]> {
    for (const [flow, slots] of this.#busyByFlow) {
      const { size } = flow ?? queue
      const each = Math.ceil(size / slots.length)
      const isDeep = size > 2 * slots.length
      for (const slot of slots) {
        const most = maxTasks === undefined ? each : Math.min(each, maxTasks - slot.finished - slot.runQueue.size)
        const tasks = slot.runQueue.prefetch(queue, estimates, most, now, isDeep)
        if (tasks.length > 0) yield [slot, tasks]
      }
    }
  }

  /** Without a limit of workers for a flow, all of them are under `undefined`. */
  get #busyByFlow(): Map<Flow | undefined, WorkerSlot[]> {
    const busy = new Map<Flow | undefined, WorkerSlot[]>()
    for (const slot of this.#slots.values()) {
      if (slot.phase !== 'busy' || slot.isRetiring) continue
      const slots = busy.get(slot.runQueue.flow)
      if (slots) slots.push(slot)
      else busy.set(slot.runQueue.flow, [slot])
    }
    return busy
  }

  setIdle(slot: WorkerSlot): void {
    slot.phase = 'idle'
    this.#idle.add(slot)
  }

  setBusy(slot: WorkerSlot): void {
    slot.phase = 'busy'
    this.#idle.delete(slot)
  }

  setStopping(slot: WorkerSlot): void {
    slot.phase = 'stopping'
    this.#idle.delete(slot)
  }

  becameReady(slot: WorkerSlot): void {
    this.#deadStarts = 0
    this.#wasReady ||= [...this.#slots.values()].every((other) => other === slot || other.phase !== 'starting')
  }

  /** Its modules or its initializer failed; the process exits by itself. */
  startFailed(slot: WorkerSlot): void {
    this.#deadStarts++
    this.setStopping(slot)
  }

  finishedTask(slot: WorkerSlot): void {
    slot.finished++
    this.#idleExits = 0
    this.#crashes = 0
  }

  /** Removes a worker that has exited. Returns whether it died while starting. */
  remove(slot: WorkerSlot, exit: WorkerExit): boolean {
    const isDeadStart = slot.phase === 'starting'
    if (isDeadStart) this.#deadStarts++
    else if (slot.phase === 'busy' && !exit.expected) this.#crashes++
    // A signal from outside says nothing about the next worker.
    else if (slot.phase === 'idle' && slot.finished === 0 && exit.signal === undefined) this.#idleExits++
    this.#slots.delete(slot.id)
    this.#idle.delete(slot)
    return isDeadStart
  }
}
