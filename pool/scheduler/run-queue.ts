import type { FairQueue, Flow } from './fair-queue.js'
import type { Task } from './task.js'

/** A worker gets short tasks ahead of time, up to this estimated run time together: many round trips' worth. */
export const PREFETCH_MS = 1

/** If many tasks wait, one longer task is prefetched too, up to this run time: it is a hundred times its round trip. */
export const LONG_PREFETCH_MS = 50

/** Limits of one run queue. */
export const PREFETCH_TASKS = 256
export const PREFETCH_BYTES = 1024 * 1024

/** A prefetched task that has not begun after this time goes to another worker: the task before it runs unexpectedly long. */
export const BEGIN_BY_MS = 10

/** What a cancelled task of unknown run time counts as. */
const UNKNOWN_MS = 10

/**
 * The tasks that a worker has, in the order in which it runs them. The first one runs. The others are prefetched: when
 * one ends, the next is already there, without a round trip. A worker begins no prefetched task after its begin-by time,
 * so behind a task that runs unexpectedly long they are taken back into the fair queue.
 *
 *   FairQueue ── assign ──▶ [ first │ prefetched … ] ── finishFirst ──▶ settled
 *       ▲  └──── prefetch ──────────────▲     │
 *       └──── takeBackLate, handedBack ───────┘
 */
export class RunQueue {
  readonly #tasks: Task[] = []
  /** Ids of tasks that were taken back, but that the worker has not confirmed yet (`handedBack`). It gets no more until then. */
  readonly #unconfirmed = new Set<number>()
  /** If flows have a limit of workers: the flow that the worker belongs to until this queue is empty. */
  #flow: Flow | undefined
  /** The worker has had prefetched tasks since it became that flow's. */
  #hasPrefetched = false

  get flow(): Flow | undefined {
    return this.#flow
  }

  get first(): Task | undefined {
    return this.#tasks[0]
  }

  get size(): number {
    return this.#tasks.length
  }

  /** The worker has nothing to run and nothing to hand back. */
  get isEmpty(): boolean {
    return this.#tasks.length === 0 && this.#unconfirmed.size === 0
  }

  has(task: Task): boolean {
    return this.#tasks.includes(task)
  }

  [Symbol.iterator](): Iterator<Task> {
    return this.#tasks[Symbol.iterator]()
  }

  /** Gives an idle worker a task, which begins as soon as the worker reads it. */
  assign(task: Task, estimates: Estimates, flow: Flow | undefined): void {
    this.#flow = flow
    flow?.holdWorker()
    this.#add(task, 0, estimates.of(task) ?? Number.POSITIVE_INFINITY)
  }

  /** The first task has ended. If it had been cancelled, its client pays for the estimated run time. */
  finishFirst(): void {
    const task = this.#tasks.shift()
    if (task?.settled) task.charge(Number.isFinite(task.expectedMs) ? task.expectedMs : UNKNOWN_MS)
    if (this.isEmpty) this.release()
  }

  /** The worker has nothing left, or is gone: it no longer belongs to a flow. */
  release(): void {
    this.#flow?.releaseWorker()
    this.#flow = undefined
    this.#hasPrefetched = false
  }

  /**
   * Takes up to `most` tasks from the queue ahead of time: only kinds of tasks that have run before, up to PREFETCH_MS
   * together. It refills when half of that is left, so that prefetched tasks travel together.
   * @param isDeep more tasks wait than the other workers can run meanwhile, so one longer task is worth prefetching.
   */
  prefetch(queue: FairQueue, estimates: Estimates, most: number, now: number, isDeep: boolean): Task[] {
    const { first } = this
    // The first task was cancelled: its worker may have to be killed.
    if (first?.settled || this.#unconfirmed.size > 0) return []
    const short = this.#prefetchShort(queue, estimates, most, now + BEGIN_BY_MS)
    this.#hasPrefetched ||= short.length > 0
    if (short.length > 0 || !first || this.size > 1 || !isDeep || most < 1) return short
    const task = this.#next(queue, false)
    const expected = task && estimates.of(task)
    if (!task || expected === undefined) return short
    if (expected > LONG_PREFETCH_MS || first.expectedMs > LONG_PREFETCH_MS) return short
    if (first.bytes + task.bytes > PREFETCH_BYTES) return short
    queue.take(task)
    this.#add(task, now + first.expectedMs + BEGIN_BY_MS, expected)
    return [task]
  }

  #prefetchShort(queue: FairQueue, estimates: Estimates, most: number, beginBy: number): Task[] {
    let ms = 0
    let bytes = 0
    for (const task of this.#tasks) {
      ms += task.expectedMs
      bytes += task.bytes
    }
    const taken: Task[] = []
    if (this.size > 1 && ms > PREFETCH_MS / 2) return taken
    while (taken.length < most && this.size < PREFETCH_TASKS) {
      const task = this.#next(queue, !this.#hasPrefetched)
      const expected = task && estimates.of(task)
      if (!task || expected === undefined) break
      ms += expected
      bytes += task.bytes
      if (ms > PREFETCH_MS || bytes > PREFETCH_BYTES) break
      queue.take(task)
      this.#add(task, beginBy, expected)
      taken.push(task)
    }
    return taken
  }

  #next(queue: FairQueue, isFirstTurn: boolean): Task | undefined {
    return this.#flow ? queue.peekOf(this.#flow, isFirstTurn) : queue.peek()
  }

  /** Whether a prefetched task is past its begin-by time. */
  isLate(now: number): boolean {
    return this.#tasks.some((task, at) => at > 0 && isLate(task, now))
  }

  /** Puts late prefetched tasks back into the queue, and returns them. The first task is never late: it may have begun. */
  takeBackLate(queue: FairQueue, now: number): readonly Task[] {
    return this.#takeBack(queue, (task, at) => {
      const late = at > 0 && isLate(task, now)
      if (late) this.#unconfirmed.add(task.id)
      return late
    })
  }

  /** The worker ran a task that had been taken back. Its outcome comes too late; the worker will not confirm it. */
  forget(task: number): void {
    this.#unconfirmed.delete(task)
    if (this.isEmpty) this.release()
  }

  /** The worker has skipped these tasks for good. Returns those that go back into the queue only now. */
  handedBack(queue: FairQueue, tasks: readonly number[]): readonly Task[] {
    const mine = new Set(tasks.filter((task) => !this.#unconfirmed.delete(task)))
    const back = mine.size > 0 ? this.#takeBack(queue, (task) => mine.has(task.id)) : []
    if (this.isEmpty) this.release()
    return back
  }

  #add(task: Task, beginBy: number, expectedMs: number): void {
    task.beginBy = beginBy
    task.expectedMs = expectedMs
    this.#tasks.push(task)
  }

  /** Moves tasks back into the queue in their order. Tasks that were cancelled meanwhile just go. */
  #takeBack(queue: FairQueue, goesBack: (task: Task, at: number) => boolean): Task[] {
    const tasks = this.#tasks.splice(0)
    const back: Task[] = []
    for (const [at, task] of tasks.entries()) {
      if (!goesBack(task, at)) this.#tasks.push(task)
      else if (!task.settled) back.push(task)
    }
    for (const task of back.reverse()) {
      task.resetStart()
      queue.unshift(task)
    }
    return back
  }
}

/** One millisecond later than the worker decides the same. */
const isLate = ({ beginBy }: Task, now: number): boolean => beginBy > 0 && beginBy + 1 < now

/** First runs of a function are slow, and any run can be: a longer run counts half, a shorter run a tenth. */
const UP = 0.5
const DOWN = 0.1
/** Size classes: zero, and each power of two up to 2^32. */
const CLASSES = 33

/** Estimated run times in milliseconds, learnt from finished tasks, for each function and size class of its arguments. */
export class Estimates {
  readonly #functions = new Map<string, Float64Array>()

  /** Undefined if no such task has finished yet. */
  of(task: Task): number | undefined {
    const known = this.#functions.get(task.job.function)?.[sizeClass(task)]
    return known === undefined || known === 0 ? undefined : known
  }

  /** Learns from a finished task and charges its client. Ignores run times that cannot be. */
  learn(task: Task, ranMs: number): void {
    if (!(ranMs > 0 && ranMs < Number.POSITIVE_INFINITY)) return
    task.charge(ranMs)
    const known = this.#functions.get(task.job.function) ?? new Float64Array(2 * CLASSES)
    this.#functions.set(task.job.function, known)
    const at = sizeClass(task)
    const before = known[at] ?? 0
    known[at] = before === 0 ? ranMs : before + (ranMs - before) * (ranMs > before ? UP : DOWN)
  }
}

/** A single call and a chunk of the same function are different kinds of work. */
const sizeClass = ({ bytes, chunk }: Task): number => 32 - Math.clz32(bytes) + (chunk ? CLASSES : 0)
