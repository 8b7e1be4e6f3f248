import { STEPS_IN_A_TURN } from '../../wire/limits.js'

type Step = () => void

/**
 * Who gets how much of a turn of the event loop. A read of a socket brings hundreds of calls and workers end hundreds of
 * tasks at once; to begin or to answer a call with an RPC of its own takes a tenth of a millisecond, for which everybody
 * else would wait. So each turn takes few such steps, of the connections one after another; the rest waits for the turns
 * behind it.
 */
export class Turns {
  readonly #waiting = new Map<object, { readonly cost: number; readonly step: Step }[]>()
  /** Connections that have had a step in this turn. */
  readonly #served = new Set<object>()
  #left = STEPS_IN_A_TURN
  #isTurning = false

  /**
   * Takes a step of a connection: now, where it fits into this turn or is the first of its connection, and true; or later,
   * behind those that wait already, and false.
   * @param cost 1 for what an RPC takes.
   */
  take(connection: object, cost: number, step: Step): boolean {
    const waiting = this.#waiting.get(connection)
    if (!waiting && (this.#left > 0 || !this.#served.has(connection))) {
      this.#count(connection, cost)
      step()
      return true
    }
    if (waiting) waiting.push({ cost, step })
    else this.#waiting.set(connection, [{ cost, step }])
    return false
  }

  /** For a step that has been taken already: a promise of when the next may come; undefined for now. */
  taken(connection: object, cost: number): Promise<void> | undefined {
    let resolve = () => {}
    if (this.take(connection, cost, () => resolve())) return undefined
    return new Promise((ready) => {
      resolve = ready
    })
  }

  /** A step has turned out to cost so much more. */
  spend(cost: number): void {
    this.#left -= cost
  }

  /** Resolves when all steps that wait now have been taken. */
  async idle(): Promise<void> {
    const ends = [...this.#waiting.keys()].map(
      (connection) => new Promise<void>((resolve) => this.take(connection, 0, resolve)),
    )
    await Promise.all(ends)
  }

  #count(connection: object, cost: number): void {
    this.#left -= cost
    this.#served.add(connection)
    if (this.#isTurning) return
    this.#isTurning = true
    setImmediate(() => this.#turn())
  }

  #turn(): void {
    this.#isTurning = false
    this.#left = STEPS_IN_A_TURN
    this.#served.clear()
    while (this.#left > 0 && this.#waiting.size > 0) this.#round()
  }

  /** One step of each connection; whoever had one stands behind the others, also in the next turn. */
  #round(): void {
    for (const [connection, steps] of [...this.#waiting]) {
      if (this.#left <= 0) return
      const first = steps.shift()
      this.#waiting.delete(connection)
      if (steps.length > 0) this.#waiting.set(connection, steps)
      this.#count(connection, first?.cost ?? 0)
      first?.step()
    }
  }
}
