/** Chunks of one imap that are pulled but not yet consumed: at least this many, and 4 per process. */
export const IMAP_WINDOW_CHUNKS = 16

/**
 * CPython's default for map and starmap: about four chunks for every process, so that a slow one evens out.
 * `ceil(items / (4 * processes))`, and 1 for no items.
 */
export const defaultChunksize = (items: number, processes: number): number =>
  Math.max(1, Math.ceil(items / (4 * processes)))

/** How many chunks of an imap may be under way or waiting for their consumer, at least. */
export const imapWindow = (processes: number): number => Math.max(IMAP_WINDOW_CHUNKS, 4 * processes)

/** Puts values that arrive in any order back into the order of their index. */
export class ReorderBuffer<T> {
  readonly #early = new Map<number, T>()
  #next = 0

  /** Returns the values whose turn it is now: this one and those behind it, or none. */
  push(index: number, value: T): T[] {
    this.#early.set(index, value)
    const ready: T[] = []
    for (let next = this.#early.get(this.#next); next !== undefined; next = this.#early.get(this.#next)) {
      this.#early.delete(this.#next++)
      ready.push(next)
    }
    return ready
  }
}
