import { MAX_TIMER_MS } from '../../wire/limits.js'

/** One timer for the calls of a group; gone when the last of them has ended. */
export class GroupTimeout {
  readonly #ids = new Set<number>()
  #timer: NodeJS.Timeout | undefined

  constructor(
    private readonly ms: number,
    private readonly onLate: (id: number) => void,
  ) {}

  add(id: number): void {
    this.#ids.add(id)
  }

  remove(id: number): void {
    this.#ids.delete(id)
    if (this.#ids.size === 0) clearTimeout(this.#timer)
  }

  start(): void {
    if (this.#ids.size === 0 || this.ms > MAX_TIMER_MS) return
    this.#timer = setTimeout(() => {
      for (const id of [...this.#ids]) this.onLate(id)
    }, this.ms)
  }
}
