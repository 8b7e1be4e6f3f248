import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import type { Writable } from 'node:stream'
import { finished } from 'node:stream/promises'

/** Results could not be written. */
export class OutputError extends Error {
  override readonly name = 'OutputError'
  /** The reader of a pipe has closed it, as `head` does when it has enough. */
  readonly isReaderGone: boolean

  constructor(to: string, cause: Error) {
    super(`cannot write ${to}: ${cause.message}`, { cause })
    this.isReaderGone = 'code' in cause && cause.code === 'EPIPE'
  }
}

/** Where a command writes its results: a file, which is opened and emptied now, or standard output. Make one at a time. */
export class Output {
  readonly #stream: Writable
  #error: OutputError | undefined

  /** @param file a path, or `-` for standard output. */
  constructor(private readonly file: string) {
    this.#stream = file === '-' ? process.stdout : createWriteStream(file)
    this.#stream.on('error', this.#onError)
  }

  /** Resolves when there is room for more. @throws OutputError, also of an earlier text. */
  async write(text: string): Promise<void> {
    this.#check()
    let hasRoom = true
    try {
      hasRoom = this.#stream.write(text)
    } catch (error) {
      // Standard output that is a file throws.
      this.#onError(error as Error)
    }
    // If the stream fails, #onError knows why.
    if (!hasRoom) await once(this.#stream, 'drain').catch(() => {})
    this.#check()
  }

  /** Resolves when everything is written. @throws OutputError */
  async end(): Promise<void> {
    if (this.file === '-') await new Promise<void>((resolve) => this.#stream.write('', () => resolve()))
    else await finished(this.#stream.end()).catch(() => {})
    this.#stream.off('error', this.#onError)
    this.#check()
  }

  readonly #onError = (error: Error): void => {
    this.#error ??= new OutputError(this.file === '-' ? 'standard output' : `--output ${this.file}`, error)
  }

  #check(): void {
    if (this.#error) throw this.#error
  }
}

/** Writes to standard output. Resolves when the text is written. @throws OutputError */
export async function print(text: string): Promise<void> {
  const output = new Output('-')
  await output.write(text)
  await output.end()
}
