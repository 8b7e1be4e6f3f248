/**
 * Values from callbacks, for one reader: what is pushed waits until it is taken. A channel has no limit; the code that pushes
 * bounds the number of values.
 */
export class Channel<T> implements AsyncIterable<T> {
  #values: T[] = []
  #end: { readonly error: unknown } | { readonly error?: undefined } | undefined
  #wake: (() => void) | undefined

  /** Ignored after `end`. */
  push(value: T): void {
    if (this.#end) return
    this.#values.push(value)
    this.#wake?.()
  }

  /** The reader gets the values that are there, then the end, or the error. Only the first call counts. */
  end(error?: unknown): void {
    this.#end ??= error === undefined ? {} : { error }
    this.#wake?.()
  }

  /** Waits for values, and returns all that are there; none if the channel has ended. Throws the error that ended it. */
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
