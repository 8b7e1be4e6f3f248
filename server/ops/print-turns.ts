/** So many lines are logged in one turn of the event loop, some milliseconds, and what comes in one piece with them. */
const LINES_IN_A_TURN = 256

/**
 * Turns of whoever prints much: a worker can print ten thousand lines at once, and while they are logged everybody else would
 * wait. Beyond a few lines they go on one after another, each in a turn of the event loop.
 */
export class PrintTurns {
  #lines = 0
  #isTurn = false
  readonly #waiting: (() => void)[] = []

  /** So many lines have been logged; a promise where whoever printed them has to wait until it resolves. */
  take(lines: number): Promise<void> | undefined {
    this.#lines += lines
    if (!this.#isTurn) setImmediate(this.#next)
    this.#isTurn = true
    return this.#lines > LINES_IN_A_TURN ? new Promise((resolve) => this.#waiting.push(resolve)) : undefined
  }

  readonly #next = (): void => {
    this.#lines = 0
    this.#isTurn = this.#waiting.length > 0
    if (!this.#isTurn) return
    setImmediate(this.#next)
    this.#waiting.shift()?.()
  }
}
