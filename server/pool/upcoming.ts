/** Where starts wait for their turn: calls `start`, now or later; returns how to leave before. */
export type Enter = (start: () => void) => () => void

/** The workers of one pool that are still to be started: after a while, or when it is their turn. */
export class Upcoming {
  readonly #giveUp = new Map<number, () => void>()

  /** @param enter undefined where they need not wait. */
  constructor(private readonly enter: Enter | undefined) {}

  add(worker: number, delayMs: number, start: () => void): void {
    const begin = () => {
      this.#giveUp.delete(worker)
      start()
    }
    const enter = () => {
      let isBegun = false
      const leave = this.enter?.(() => {
        isBegun = true
        begin()
      })
      if (!leave) begin()
      else if (!isBegun) this.#giveUp.set(worker, leave)
    }
    if (delayMs <= 0) return enter()
    const timer = setTimeout(enter, delayMs)
    this.#giveUp.set(worker, () => clearTimeout(timer))
  }

  /** Whether it is one of them; then it never starts. */
  remove(worker: number): boolean {
    const giveUp = this.#giveUp.get(worker)
    giveUp?.()
    return this.#giveUp.delete(worker)
  }
}
