/** Workers of owned pools that may be starting at once. A start takes a CPU for a tenth of a second. */
const MAX_STARTING = 8

interface Start {
  readonly begin: () => void
}

/**
 * Limits how many workers of owned pools start at once, so that a client that opens a very large pool, or many pools,
 * leaves the others some CPU. Workers start in the order in which they were asked for, one in a turn of the event loop,
 * because making a process holds the loop for milliseconds. Shared pools do not use it: all clients wait for those.
 */
export class SpawnThrottle {
  readonly #waiting = new Set<Start>()
  readonly #starting = new Set<Start>()
  #isScheduled = false

  /**
   * Calls `begin` later: at the end of this turn, or when it is this worker's turn. The caller must call the returned
   * function once: when the worker is ready, or has failed or exited, or is not wanted any more.
   */
  enter(begin: () => void): () => void {
    const start = { begin }
    this.#waiting.add(start)
    this.#schedule(queueMicrotask)
    return () => {
      this.#waiting.delete(start)
      if (this.#starting.delete(start)) this.#schedule(queueMicrotask)
    }
  }

  #schedule(soon: (next: () => void) => void): void {
    if (this.#isScheduled || this.#waiting.size === 0 || this.#starting.size >= MAX_STARTING) return
    this.#isScheduled = true
    soon(() => this.#next())
  }

  #next(): void {
    const [start] = this.#waiting
    if (start) {
      this.#waiting.delete(start)
      this.#starting.add(start)
    }
    try {
      start?.begin()
    } finally {
      this.#isScheduled = false
      this.#schedule(setImmediate)
    }
  }
}

interface PendingStart {
  hasBegun: boolean
  /** Gives up its pause, or its place in the throttle. */
  leave: () => void
}

/** The workers of one pool that wait to be started, and those of an owned pool that are starting. */
export class PendingStarts {
  readonly #starts = new Map<number, PendingStart>()

  /** @param throttle undefined for workers that start without waiting for their turn. */
  constructor(private readonly throttle: SpawnThrottle | undefined) {}

  /** Calls `start` after the pause, once it is the worker's turn. */
  add(worker: number, delayMs: number, start: () => void): void {
    if (delayMs <= 0) return this.#enter(worker, start)
    const timer = setTimeout(() => {
      this.#starts.delete(worker)
      this.#enter(worker, start)
    }, delayMs).unref()
    this.#starts.set(worker, { hasBegun: false, leave: () => clearTimeout(timer) })
  }

  /** Gives up a start that has not begun. Returns false if it has begun, or if there is none. */
  cancel(worker: number): boolean {
    if (this.#starts.get(worker)?.hasBegun !== false) return false
    this.ended(worker)
    return true
  }

  /** The worker is ready, has failed, or has exited. */
  ended(worker: number): void {
    this.#starts.get(worker)?.leave()
    this.#starts.delete(worker)
  }

  #enter(worker: number, start: () => void): void {
    if (!this.throttle) return start()
    const pending: PendingStart = { hasBegun: false, leave: () => {} }
    pending.leave = this.throttle.enter(() => {
      pending.hasBegun = true
      start()
    })
    this.#starts.set(worker, pending)
  }
}
