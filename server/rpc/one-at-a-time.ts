import { once } from './once.js'

/** What one may do at a time; of those who wait for it clients take turns. */
export class OneAtATime {
  #isTaken = false
  /** By client, the one whose turn it is first. */
  readonly #lines = new Map<object, (() => void)[]>()

  /** Resolves when it is the caller's turn, with what ends that. */
  async enter(client: object): Promise<() => void> {
    if (this.#isTaken) {
      await new Promise<void>((resolve) => {
        const line = this.#lines.get(client) ?? []
        this.#lines.set(client, line)
        line.push(resolve)
      })
    }
    this.#isTaken = true
    return once(() => this.#leave())
  }

  #leave(): void {
    const [first] = this.#lines
    this.#isTaken = first !== undefined
    if (!first) return
    const [client, line] = first
    this.#lines.delete(client)
    const [next, ...others] = line
    if (others.length > 0) this.#lines.set(client, others)
    next?.()
  }
}
