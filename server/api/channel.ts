/**
 * Values from callbacks, to be read with `for await`: what is pushed waits until it is read. One reader.
 * Whoever pushes keeps the count small: a channel has no limit of its own.
 */
export class Channel<T> implements AsyncIterable<T> {
  #values: T[] = []
  #end: { readonly error: unknown } | { readonly error?: undefined } | undefined
  #wake: (() => void) | undefined

  push(value: T): void {
    if (this.#end) return
    this.#values.push(value)
    this.#wake?.()
  }

  /** No more values: the reader gets what is there, then the end, or the error. */
  end(error?: unknown): void {
    this.#end ??= error === undefined ? {} : { error }
    this.#wake?.()
  }

  /** Whether `end` was called: what is pushed now reaches nobody. */
  get ended(): boolean {
    return this.#end !== undefined
  }

  /** Everything that is there, at once; empty when the channel has ended. Throws the error that ended it. */
  async take(): Promise<T[]> {
    while (this.#values.length === 0 && !this.#end) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
      this.#wake = undefined
    }
    const values = this.#values
    this.#values = []
    if (values.length === 0 && this.#end?.error !== undefined) throw this.#end.error
    return values
  }

  async *[Symbol.asyncIterator](): AsyncIterator<T> {
    for (let values = await this.take(); values.length > 0; values = await this.take()) yield* values
  }
}
