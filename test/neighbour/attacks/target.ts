import { isFarpoolError } from '../../chaos/farpool.js'
import type { HostileOptions } from '../messages.js'

/** An attack runs until `target.isOver` and counts its results with `target.did()`. */
export interface Attack {
  /** One line for the help text. */
  readonly what: string
  run(target: Target): Promise<void>
}

/** The server under attack, the end of the attack, and the count of its results. */
export class Target {
  readonly done: Record<string, number> = {}
  #isOver = false
  #ended: Promise<void> = Promise.resolve()
  readonly #over: Promise<void>
  #setOver: () => void = () => {}

  constructor(
    readonly options: HostileOptions,
    private readonly begun: () => void,
  ) {
    this.#over = new Promise((resolve) => {
      this.#setOver = resolve
    })
  }

  get address(): string {
    return this.options.address
  }

  get isOver(): boolean {
    return this.#isOver
  }

  run(attack: Attack): void {
    this.#ended = attack.run(this).catch((error) => this.did(reasonOf(error)))
  }

  /** Counts a result of the attack. The first one also marks the attack as begun. */
  did(what: string, times = 1): void {
    this.done[what] = (this.done[what] ?? 0) + times
    this.begun()
  }

  /** Resolves when the attack has to end. */
  get over(): Promise<void> {
    return this.#over
  }

  /** Ends the attack. Resolves when it has ended. */
  stop(): Promise<void> {
    this.#isOver = true
    this.#setOver()
    return this.#ended
  }

  /** Keeps `width` runs of `one` under way and counts their results. */
  async keep(width: number, one: (at: number) => Promise<unknown>): Promise<void> {
    let at = 0
    const lane = async () => {
      while (!this.#isOver) {
        try {
          const what = await one(at++)
          this.did(typeof what === 'string' ? what : 'ok')
        } catch (error) {
          this.did(reasonOf(error))
          await new Promise((resolve) => setImmediate(resolve))
        }
      }
    }
    await Promise.all(Array.from({ length: width }, lane))
  }
}

export const reasonOf = (error: unknown): string => (isFarpoolError(error) ? error.reason : String(error).slice(0, 80))
