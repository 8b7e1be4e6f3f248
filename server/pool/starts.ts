/** Starting processes for clients' pools may take such a part of the event loop, and so many milliseconds of it at once. */
const SHARE = 0.2
const BURST_MS = 100

/**
 * When processes of clients' pools start. To make one holds up the whole server for milliseconds, so one client that
 * opens and ends pools as fast as it can would leave the others little of it. A few start without delay, one in a turn of
 * the event loop; those of a flood, or of a very large pool, wait in line, and pools take turns. One that ends while it
 * waits costs nothing.
 */
export class Starts {
  /** By pool, the one whose turn it is first. */
  readonly #lines = new Map<object, Set<() => void>>()
  #creditMs = BURST_MS
  #at = performance.now()
  #timer: NodeJS.Timeout | undefined

  /** Calls `start`, now or later; returns how to leave the line before. */
  enter(pool: object, start: () => void): () => void {
    // A call of its own, whatever else is in line.
    const entry = () => start()
    const line = this.#lines.get(pool) ?? new Set()
    this.#lines.set(pool, line)
    line.add(entry)
    if (!this.#timer) this.#next()
    return () => {
      line.delete(entry)
      if (line.size === 0 && this.#lines.get(pool) === line) this.#lines.delete(pool)
    }
  }

  #next(): void {
    this.#timer = undefined
    if (this.#lines.size === 0) return
    this.#refill()
    try {
      if (this.#creditMs > 0) this.#startOne()
    } finally {
      // One in a turn of the event loop: who calls meanwhile waits for one at most.
      this.#timer = setTimeout(() => this.#next(), Math.max(1, -this.#creditMs / SHARE))
    }
  }

  /** Of the pool whose turn it is, which then stands behind all others. */
  #startOne(): void {
    for (const [pool, line] of this.#lines) {
      this.#lines.delete(pool)
      const [start] = line
      if (!start) return
      line.delete(start)
      if (line.size > 0) this.#lines.set(pool, line)
      const from = performance.now()
      start()
      this.#creditMs -= performance.now() - from
      return
    }
  }

  #refill(): void {
    const now = performance.now()
    this.#creditMs = Math.min(BURST_MS, this.#creditMs + SHARE * (now - this.#at))
    this.#at = now
  }
}
