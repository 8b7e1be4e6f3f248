import type { Company } from './company.js'
import { LinesInTurn } from './lines-in-turn.js'
import type { Client } from './task.js'

/** Starting processes for clients' pools may take such a part of the event loop. */
const SHARE = 0.2
/** And such a one while other clients call. */
const SHARE_IN_COMPANY = 0.05
/** What may be taken at once has been saved for so long. */
const SAVED_MS = 500

/**
 * When processes of clients' pools start. To make one holds up the whole server for milliseconds, and its start takes CPUs, so
 * one client that opens and ends pools as fast as it can would leave the others little of them. A few start without delay,
 * one in a turn of the event loop; those of a flood, or of a very large pool, wait in line, and clients take turns. One that
 * ends while it waits costs nothing.
 */
export class Starts {
  readonly #lines = new LinesInTurn<() => void>()
  #creditMs = SHARE * SAVED_MS
  #at = performance.now()
  #timer: NodeJS.Timeout | undefined

  constructor(private readonly company: Company) {}

  /** Calls `start`, now or later; returns how to leave the line before. */
  enter(client: Client, start: () => void): () => void {
    const leave = this.#lines.enter(client, start)
    if (!this.#timer) this.#next()
    return leave
  }

  #next(): void {
    this.#timer = undefined
    if (this.#lines.isEmpty) return
    const share = this.company.isThere ? SHARE_IN_COMPANY : SHARE
    this.#refill(share)
    try {
      if (this.#creditMs > 0) this.#startOne()
    } finally {
      // One in a turn of the event loop: who calls meanwhile waits for one at most.
      this.#timer = setTimeout(() => this.#next(), Math.max(1, -this.#creditMs / share))
    }
  }

  #startOne(): void {
    const from = performance.now()
    this.#lines.take()?.()
    this.#creditMs -= performance.now() - from
  }

  #refill(share: number): void {
    const now = performance.now()
    this.#creditMs = Math.min(SAVED_MS * share, this.#creditMs + share * (now - this.#at))
    this.#at = now
  }
}
