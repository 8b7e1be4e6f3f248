import { IMAP_FAST_MS, IMAP_MAX_WINDOW_CHUNKS, IMAP_WINDOW_BYTES, IMAP_WINDOW_CHUNKS } from '../wire/limits.js'

/**
 * How many chunks of an imap may be pulled and not yet consumed. It grows where it holds back a consumer that waits for
 * short tasks, since a round trip takes as long as many of them; never beyond what has been consumed.
 */
export class Window {
  #chunks = IMAP_WINDOW_CHUNKS
  #consumed = 0
  /** Of payloads that have been sent and not come back. */
  #bytes = 0

  get chunks(): number {
    return this.#chunks
  }

  /** At least four chunks for each process. */
  fit(processes: number): void {
    this.#chunks = Math.max(this.#chunks, 4 * processes)
  }

  lift(): void {
    this.#chunks = Number.POSITIVE_INFINITY
  }

  sent(bytes: number): void {
    this.#bytes += bytes
  }

  /** A chunk has come back, so many milliseconds after it was pulled. */
  arrived(bytes: number, ms: number, isAwaited: boolean): void {
    this.#bytes -= bytes
    if (!isAwaited || ms > IMAP_FAST_MS || this.#bytes > IMAP_WINDOW_BYTES || 2 * this.#chunks > this.#consumed) return
    this.#chunks = Math.min(2 * this.#chunks, IMAP_MAX_WINDOW_CHUNKS)
  }

  consumed(): void {
    this.#consumed++
  }
}
