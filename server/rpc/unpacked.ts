import type { Account } from './budget.js'

/** What compressed messages take from being unpacked until their handlers have them, by client. */
export class Unpacked {
  readonly #by = new Map<Account, number>()
  #all = 0

  constructor(private readonly limitBytes: number) {}

  /** More bytes, or fewer where negative. */
  add(client: Account, bytes: number): void {
    this.#all += bytes
    const own = (this.#by.get(client) ?? 0) + bytes
    if (own === 0) this.#by.delete(client)
    else this.#by.set(client, own)
  }

  /** All take too much, and this one not less than its part; or far too much. */
  isOver(client: Account): boolean {
    if (this.#all <= this.limitBytes) return false
    return (this.#by.get(client) ?? 0) > this.limitBytes / this.#by.size || this.#all > 2 * this.limitBytes
  }
}
