import { isFarpoolError } from '../../chaos/farpool.js'
import type { HostileOptions } from '../messages.js'

/** An attack goes on until its target says that it is over, and tells it what it got done. */
export interface Attack {
  /** One line for the table. */
  readonly what: string
  run(target: Target): Promise<void>
}

/** The server, seen by the hostile client. */
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

  /** Counts something that the attack got done. */
  did(what: string, times = 1): void {
    this.done[what] = (this.done[what] ?? 0) + times
    this.begun()
  }

  /** Resolves when it is over: for what would wait for ever. */
  get over(): Promise<void> {
    return this.#over
  }

  /** Resolves when the attack has ended. */
  stop(): Promise<void> {
    this.#isOver = true
    this.#setOver()
    return this.#ended
  }

  /** Keeps so many of these under way; counts how each of them ended. */
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
