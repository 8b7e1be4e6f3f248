/** The rules about chunks that client and server share: how large a chunk is, how many are under way, their order. */

/**
 * CPython's default chunk size for map and starmap: about four chunks for each process, so that one slow chunk does not
 * delay the whole map. `ceil(items / (4 * processes))`, and 1 if there are no items.
 */
export const defaultChunksize = (items: number, processes: number): number =>
  Math.max(1, Math.ceil(items / (4 * processes)))

/** The window of an imap has at least this many chunks. */
export const IMAP_WINDOW_CHUNKS = 16

/** The window of an imap: the number of chunks that may be pulled from its input and not yet consumed. */
export const imapWindow = (processes: number): number => Math.max(IMAP_WINDOW_CHUNKS, 4 * processes)

/** Where to cut a list of sizes in two, so that both parts sum up to about the same. There must be at least two. */
export function halfway(sizes: readonly number[]): number {
  // Without the 1, a list of zeros would be cut in front of its last one.
  const half = sizes.reduce((sum, size) => sum + size + 1, 0) / 2
  let cut = 1
  for (let sum = (sizes[0] ?? 0) + 1; cut < sizes.length - 1; cut++) {
    sum += (sizes[cut] ?? 0) + 1
    if (sum > half) break
  }
  return cut
}

/**
 * Puts values that arrive in any order back into the order of their indexes 0, 1, 2, … A value that arrives before its
 * turn stays in the buffer until all values with a smaller index have arrived.
 */
export class ReorderBuffer<T extends object> {
  /** Arrived before their turn, by index. */
  readonly #early = new Map<number, T>()
  #next = 0

  /**
   * Adds the value with this index; each index is added once.
   * @returns the values whose turn it is now, in order; empty while a value with a smaller index is missing.
   */
  push(index: number, value: T): T[] {
    this.#early.set(index, value)
    const inTurn: T[] = []
    for (let next = this.#early.get(this.#next); next; next = this.#early.get(this.#next)) {
      this.#early.delete(this.#next++)
      inTurn.push(next)
    }
    return inTurn
  }
}
