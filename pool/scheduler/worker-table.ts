import type { Share, TaskQueue } from './fair-queue.js'
import type { WorkerExit, WorkerPhase } from './pool-state.js'
import { type Estimates, Hand } from './run-queue.js'
import type { Task } from './task.js'

/** The longest wait before another worker is started after many that died for nothing, and after many that died in tasks. */
const MAX_START_DELAY_MS = 10_000
const MAX_CRASH_DELAY_MS = 1_000

/** A worker, as the scheduler knows it. */
export interface Slot {
  readonly id: number
  phase: WorkerPhase
  /** A task stays here after it was ended from outside, until the worker says done. */
  readonly hand: Hand
  /** How many tasks it has done. */
  tasks: number
  /** It is to be replaced when it has nothing in hand. */
  isRetiring: boolean
}

/** The workers of a pool, and what each of them does. */
export class Crew {
  readonly #slots = new Map<number, Slot>()
  /** The one that has waited longest first. */
  readonly #idle = new Set<Slot>()
  #next = 1
  #deadStarts = 0
  /** Workers that exited, one after another, before they had done anything. */
  #idleExits = 0
  /** Workers that died in a task, one after another, without any that did one meanwhile. */
  #crashes = 0
  #wasReady = false

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

  /** Workers that died, or failed, one after another, before they were ready. */
  get deadStarts(): number {
    return this.#deadStarts
  }

  /** Whether all of the first workers came to be ready: then others can. */
  get wasReady(): boolean {
    return this.#wasReady
  }

  /** Before the next is started: the longer, the more have died for nothing. None in the first round of crashes. */
  startDelayMs(processes: number): number {
    const rounds = Math.floor(Math.max(0, this.#crashes - 1) / processes)
    return Math.max(
      Math.min(MAX_START_DELAY_MS, 100 * (this.#deadStarts + this.#idleExits) ** 2),
      Math.min(MAX_CRASH_DELAY_MS, 100 * rounds ** 2),
    )
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
      const slot: Slot = { id: this.#next++, phase: 'starting', hand: new Hand(), tasks: 0, isRetiring: false }
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
    for (const [share, slots] of this.#busy) {
      const { size } = share ?? queue
      const each = Math.ceil(size / slots.length)
      const isDeep = size > 2 * slots.length
      for (const slot of slots) {
        const left = maxTasks === undefined ? each : maxTasks - slot.tasks - slot.hand.size
        const tasks = slot.hand.fill(queue, estimates, Math.min(each, left), now, isDeep)
        if (tasks.length > 0) yield [slot, tasks]
      }
    }
  }

  /** By whose they are: where there is no limit of that, nobody's. */
  get #busy(): Map<Share | undefined, Slot[]> {
    const busy = new Map<Share | undefined, Slot[]>()
    for (const slot of this.#slots.values()) {
      if (slot.phase !== 'busy' || slot.isRetiring) continue
      const slots = busy.get(slot.hand.share)
      if (slots) slots.push(slot)
      else busy.set(slot.hand.share, [slot])
    }
    return busy
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

  ready(slot: Slot): void {
    this.#deadStarts = 0
    this.#wasReady ||= [...this.#slots.values()].every((other) => other === slot || other.phase !== 'starting')
  }

  /** Its modules or initializer failed; it ends by itself. */
  startFailed(slot: Slot): void {
    this.#deadStarts++
    this.stop(slot)
  }

  didTask(slot: Slot): void {
    slot.tasks++
    this.#idleExits = 0
    this.#crashes = 0
  }

  /** It has exited; tells whether it died while it started. */
  remove(slot: Slot, exit: WorkerExit): boolean {
    const isDeadStart = slot.phase === 'starting'
    if (isDeadStart) this.#deadStarts++
    else if (slot.phase === 'busy' && !exit.expected) this.#crashes++
    // One that was killed from outside says nothing about the next.
    else if (slot.phase === 'idle' && slot.tasks === 0 && exit.signal === undefined) this.#idleExits++
    this.#slots.delete(slot.id)
    this.#idle.delete(slot)
    return isDeadStart
  }
}
