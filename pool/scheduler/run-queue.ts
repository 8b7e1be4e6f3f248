import type { Share, TaskQueue } from './fair-queue.js'
import type { Task } from './task.js'

/** A worker is given short tasks ahead, as many as are expected to take so long altogether: many round trips' worth. */
export const PREFETCH_MS = 1

/** Where many wait, one task that is expected to take at most so long is given ahead too: the round trip is a hundredth of it. */
export const LONG_PREFETCH_MS = 50

/** A worker is given at most so many tasks ahead, and so many bytes. */
export const PREFETCH_TASKS = 256
export const PREFETCH_BYTES = 1024 * 1024

/** What a worker was given ahead and has not begun after so long goes to another: the one before it runs unexpectedly long. */
export const BEGIN_BY_MS = 10

/** A function's first runs are slow, and any run can be: a longer one counts half, a shorter one a tenth. */
const UP = 0.5
const DOWN = 0.1
/** Powers of two that a number of bytes can be below, and zero. */
const CLASSES = 33

/** How long tasks run, learnt from those that have: by function, and by the power of two of their bytes. */
export class Estimates {
  readonly #functions = new Map<string, Float64Array>()

  /** In milliseconds; undefined where none of this kind has run. */
  of(task: Task): number | undefined {
    const known = this.#functions.get(task.job.function)?.[sizeClass(task)]
    return known === undefined || known === 0 ? undefined : known
  }

  /** What cannot be, from a worker that counts otherwise, is passed over. */
  learn(task: Task, ranMs: number): void {
    if (!(ranMs > 0 && ranMs < Number.POSITIVE_INFINITY)) return
    task.ran(ranMs)
    const known = this.#functions.get(task.job.function) ?? new Float64Array(2 * CLASSES)
    this.#functions.set(task.job.function, known)
    const at = sizeClass(task)
    const before = known[at] ?? 0
    known[at] = before === 0 ? ranMs : before + (ranMs - before) * (ranMs > before ? UP : DOWN)
  }
}

/** A call of a function and a chunk for it are two kinds of work, whatever their size. */
const sizeClass = ({ bytes, chunk }: Task): number => 32 - Math.clz32(bytes) + (chunk ? CLASSES : 0)

/** What a task of a kind that has never run to its end counts when it was given up. */
const UNKNOWN_MS = 10

/**
 * What a worker has been given, in the order in which it runs it. The first runs; the others are lent: the next is at
 * hand when one ends, without a round trip, and a worker begins none after its lease (Task.beginBy) has passed. So
 * behind a task that runs unexpectedly long they go back to the queue, and to another worker.
 */
export class Hand {
  readonly #tasks: Task[] = []
  /** Reclaimed, and not yet returned: the worker gets no others before it has said that it will not begin these. */
  readonly #stale = new Set<number>()
  /** Whose worker it is until it has nothing left, where one may have so many: then it is lent nobody else's tasks. */
  #share: Share | undefined
  /** It has been lent tasks since it became that. */
  #wasLent = false

  get share(): Share | undefined {
    return this.#share
  }

  get first(): Task | undefined {
    return this.#tasks[0]
  }

  get size(): number {
    return this.#tasks.length
  }

  /** Whether the worker has nothing left to do or to return. */
  get isEmpty(): boolean {
    return this.#tasks.length === 0 && this.#stale.size === 0
  }

  /** Whether it can be lent more: what was reclaimed has been returned. */
  get isReady(): boolean {
    return this.#stale.size === 0
  }

  has(task: Task): boolean {
    return this.#tasks.includes(task)
  }

  [Symbol.iterator](): Iterator<Task> {
    return this.#tasks[Symbol.iterator]()
  }

  /** A task that begins as soon as the worker hears of it. */
  give(task: Task, estimates: Estimates, share: Share | undefined): void {
    this.#share = share
    share?.hold()
    this.#add(task, 0, estimates.of(task) ?? Number.POSITIVE_INFINITY)
  }

  /** The first has ended. One that was given up meanwhile has had its worker all the same, about as long as others of its kind. */
  drop(): void {
    const task = this.#tasks.shift()
    if (task?.settled) task.ran(Number.isFinite(task.expectedMs) ? task.expectedMs : UNKNOWN_MS)
    if (this.isEmpty) this.leave()
  }

  /** It has nothing left, or its worker is gone: it is nobody's. */
  leave(): void {
    this.#share?.release()
    this.#share = undefined
    this.#wasLent = false
  }

  /**
   * Lends at most `most` tasks from the queue: those whose kind has run before, as long as all together are expected
   * to take PREFETCH_MS at most. By halves, so that what is lent travels together. Of longer ones a single one, where there
   * is more behind it than the others can run meanwhile.
   */
  fill(queue: TaskQueue, estimates: Estimates, most: number, now: number, isDeep: boolean): Task[] {
    const { first } = this
    // Nothing behind a task that was ended: its worker may have to be killed.
    if (first?.settled) return []
    const lent = this.#fillShort(queue, estimates, most, now + BEGIN_BY_MS)
    this.#wasLent ||= lent.length > 0
    if (lent.length > 0 || !first || this.size > 1 || !this.isReady || !isDeep || most < 1) return lent
    const task = this.#next(queue, false)
    const expected = task && estimates.of(task)
    if (!task || expected === undefined || expected > LONG_PREFETCH_MS || first.expectedMs > LONG_PREFETCH_MS)
      return lent
    if (first.bytes + task.bytes > PREFETCH_BYTES) return lent
    queue.take(task)
    this.#add(task, now + first.expectedMs + BEGIN_BY_MS, expected)
    return [task]
  }

  #fillShort(queue: TaskQueue, estimates: Estimates, most: number, beginBy: number): Task[] {
    let ms = 0
    let bytes = 0
    for (const task of this.#tasks) {
      ms += task.expectedMs
      bytes += task.bytes
    }
    const lent: Task[] = []
    if (!this.isReady || (this.size > 1 && ms > PREFETCH_MS / 2)) return lent
    while (lent.length < most && this.size < PREFETCH_TASKS) {
      const task = this.#next(queue, !this.#wasLent)
      const expected = task && estimates.of(task)
      if (!task || expected === undefined) break
      ms += expected
      bytes += task.bytes
      if (ms > PREFETCH_MS || bytes > PREFETCH_BYTES) break
      queue.take(task)
      this.#add(task, beginBy, expected)
      lent.push(task)
    }
    return lent
  }

  #next(queue: TaskQueue, isTurn: boolean): Task | undefined {
    return this.#share ? queue.peekOf(this.#share, isTurn) : queue.peek()
  }

  /** Whether there is something to reclaim. */
  isLate(now: number): boolean {
    return this.#tasks.some((task, at) => at > 0 && isOver(task, now))
  }

  /** Takes back what has not begun in time; the first may have. */
  reclaim(queue: TaskQueue, now: number): void {
    this.#takeBack(queue, (task, at) => {
      const late = at > 0 && isOver(task, now)
      if (late) this.#stale.add(task.id)
      return late
    })
  }

  /** What was reclaimed has been done all the same: it comes too late, and will not be returned. */
  forget(task: number): void {
    this.#stale.delete(task)
    if (this.isEmpty) this.leave()
  }

  /** The worker has not begun these in time, and will not; gives those that are back in the queue by that. */
  returned(queue: TaskQueue, tasks: readonly number[]): readonly Task[] {
    const mine = new Set(tasks.filter((task) => !this.#stale.delete(task)))
    const back = mine.size > 0 ? this.#takeBack(queue, (task) => mine.has(task.id)) : []
    if (this.isEmpty) this.leave()
    return back
  }

  #add(task: Task, beginBy: number, expectedMs: number): void {
    task.beginBy = beginBy
    task.expectedMs = expectedMs
    this.#tasks.push(task)
  }

  /** Back to the queue, in order; what was ended meanwhile is dropped. */
  #takeBack(queue: TaskQueue, isBack: (task: Task, at: number) => boolean): Task[] {
    const tasks = this.#tasks.splice(0)
    const back: Task[] = []
    for (const [at, task] of tasks.entries()) {
      if (!isBack(task, at)) this.#tasks.push(task)
      else if (!task.settled) back.push(task)
    }
    for (const task of back.reverse()) {
      task.putBack()
      queue.unshift(task)
    }
    return back
  }
}

/** A little later than the worker sees it. */
const isOver = ({ beginBy }: Task, now: number): boolean => beginBy > 0 && beginBy + 1 < now
