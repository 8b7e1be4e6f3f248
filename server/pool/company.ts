import { type Client, connectionOf } from './task.js'

/** Who has called within so long of somebody else is not alone. */
const TOGETHER_MS = 1_000

/** Whether clients have the server to themselves, or others call meanwhile. */
export class Company {
  #last: object | string | undefined
  #changedAt = Number.NEGATIVE_INFINITY

  /** For every call: reads the clock only where it is another's than the one before. */
  came(client: Client): void {
    const connection = connectionOf(client)
    if (connection === this.#last) return
    if (this.#last !== undefined) this.#changedAt = performance.now()
    this.#last = connection
  }

  /** Whether calls of more than one connection have come lately, in turns. */
  get isThere(): boolean {
    return performance.now() - this.#changedAt < TOGETHER_MS
  }
}
