/** The items of one client, as one typed array per column: a million items take a few megabytes. */
export class ItemTable {
  #size = 1024
  /** The number of the pool within its client; 0: the call was not recorded. */
  pool = new Uint16Array(this.#size)
  retries = new Uint8Array(this.#size)
  outcome = new Uint8Array(this.#size)
  /** One bit per attempt. */
  started = new Uint8Array(this.#size)
  finished = new Uint8Array(this.#size)
  lastSign = new Float64Array(this.#size)
  /** One more than the largest number of an item. */
  count = 0

  /** Grows the columns for an item with this number. */
  reach(number: number): void {
    this.count = Math.max(this.count, number + 1)
    if (number < this.#size) return
    while (this.#size <= number) this.#size *= 2
    this.pool = grown(this.pool, new Uint16Array(this.#size))
    this.retries = grown(this.retries, new Uint8Array(this.#size))
    this.outcome = grown(this.outcome, new Uint8Array(this.#size))
    this.started = grown(this.started, new Uint8Array(this.#size))
    this.finished = grown(this.finished, new Uint8Array(this.#size))
    this.lastSign = grown(this.lastSign, new Float64Array(this.#size))
  }
}

export const OUTCOME = { none: 0, result: 1, notStarted: 2, failed: 3, withCall: 4, callNotStarted: 5 } as const

function grown<T extends Uint8Array | Uint16Array | Float64Array>(from: T, to: T): T {
  to.set(from)
  return to
}
