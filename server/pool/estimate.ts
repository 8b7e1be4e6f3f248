import type { Task } from './task.js'

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
