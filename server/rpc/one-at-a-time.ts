import { LinesInTurn } from '../pool/lines-in-turn.js'
import { once } from './once.js'

/** What one may do at a time; of those who wait for it clients take turns. */
export class OneAtATime {
  #isTaken = false
  readonly #lines = new LinesInTurn<() => void>()

  /** Resolves when it is the caller's turn, with what ends that. */
  async enter(client: object): Promise<() => void> {
    if (this.#isTaken) await new Promise<void>((resolve) => this.#lines.enter(client, resolve))
    this.#isTaken = true
    return once(() => this.#leave())
  }

  #leave(): void {
    const next = this.#lines.take()
    this.#isTaken = next !== undefined
    next?.()
  }
}
