/** What is known of each item of one client; a column each, so that a million items take a few megabytes. */
export class ItemTable {
  #size = 1024
  /** Number of its pool in its client; 0 for none: nothing is known of who asked for it. */
  pool = new Uint16Array(this.#size)
  retries = new Uint8Array(this.#size)
  outcome = new Uint8Array(this.#size)
  /** By attempt, a bit each. */
  started = new Uint8Array(this.#size)
  finished = new Uint8Array(this.#size)
  lastSign = new Float64Array(this.#size)
  /** How many numbers have been used. */
  count = 0

  /** Makes room for an item with this number. */
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
