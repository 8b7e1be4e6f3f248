import type { Estimates } from './estimate.js'
import { Hand } from './hand.js'
import type { TaskQueue } from './queue.js'
import type { WorkerPhase } from './state.js'
import type { Task } from './task.js'

/** A worker, as the scheduler knows it. */
export interface Slot {
  readonly id: number
  phase: WorkerPhase
  /** A task stays here after it was ended from outside, until the worker says done. */
  readonly hand: Hand
  /** How many tasks it has done. */
  tasks: number
}

/** The workers of a pool, and what each of them does. */
export class Crew {
  readonly #slots = new Map<number, Slot>()
  /** The one that has waited longest first. */
  readonly #idle = new Set<Slot>()
  #next = 1
  /** Workers that died, one after another, before they were ready. */
  deadStarts = 0

  get size(): number {
    return this.#slots.size
  }

  /** How many there have been. */
  get started(): number {
    return this.#next - 1
  }

  /** How many run a task that somebody waits for. */
  get running(): number {
    let running = 0
    for (const { hand } of this.#slots.values()) if (hand.first?.settled === false) running++
    return running
  }

  get hasIdle(): boolean {
    return this.#idle.size > 0
  }

  get longestIdle(): Slot | undefined {
    for (const slot of this.#idle) return slot
    return undefined
  }

  /** Before the next is started: the longer, the more have died while they started. */
  get startDelayMs(): number {
    return 100 * this.deadStarts ** 2
  }

  get(id: number): Slot | undefined {
    return this.#slots.get(id)
  }

  [Symbol.iterator](): Iterator<Slot> {
    return this.#slots.values()
  }

  /** Makes as many as are missing to `processes`; they have to be started. */
  fill(processes: number): Slot[] {
    const made: Slot[] = []
    let living = 0
    for (const { phase } of this.#slots.values()) if (phase !== 'stopping') living++
    for (; living < processes; living++) {
      const slot: Slot = { id: this.#next++, phase: 'starting', hand: new Hand(), tasks: 0 }
      this.#slots.set(slot.id, slot)
      made.push(slot)
    }
    return made
  }

  /** Whether any of them has been lent tasks. */
  get lends(): boolean {
    for (const { hand } of this.#slots.values()) if (hand.size > 1) return true
    return false
  }

  /** Fills the hands of busy workers from the queue, evenly. */
  *lend(
    queue: TaskQueue,
    estimates: Estimates,
    maxTasks: number | undefined,
    now: number,
  ): Iterable<readonly [Slot, readonly Task[]]> {
    const busy = [...this.#slots.values()].filter(({ phase }) => phase === 'busy')
    const share = Math.ceil(queue.size / busy.length)
    const isDeep = queue.size > 2 * busy.length
    for (const slot of busy) {
      const left = maxTasks === undefined ? share : maxTasks - slot.tasks - slot.hand.size
      const most = Math.min(share, left)
      const tasks = slot.hand.fill(queue, estimates, most, now, isDeep)
      if (tasks.length > 0) yield [slot, tasks]
    }
  }

  rest(slot: Slot): void {
    slot.phase = 'idle'
    this.#idle.add(slot)
  }

  work(slot: Slot): void {
    slot.phase = 'busy'
    this.#idle.delete(slot)
  }

  /** It is to be told to end; gives its name. */
  stop(slot: Slot): number {
    slot.phase = 'stopping'
    this.#idle.delete(slot)
    return slot.id
  }

  /** It has exited. */
  remove(slot: Slot): void {
    if (slot.phase === 'starting') this.deadStarts++
    this.#slots.delete(slot.id)
    this.#idle.delete(slot)
  }
}
