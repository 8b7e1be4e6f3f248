import { createReadStream, fstatSync, type Stats, statSync } from 'node:fs'
import type { Readable } from 'node:stream'
import { UsageError } from './exit-codes.js'

/** A line that is not empty. */
export interface Line {
  /** Among the lines that are not empty, from 0. */
  readonly index: number
  /** Among all lines, from 1. */
  readonly number: number
  /** Its part of the file, from the end of the line before it that is not empty. */
  readonly bytes: number
  /** The value, or why there is none. */
  readonly parsed: { readonly value: unknown } | { readonly error: UsageError }
}

const NEWLINE = 0x0a

/** A JSON Lines file, or standard input. It is read on demand. */
export class JsonLines {
  readonly #stream: Readable
  /** Undefined if it cannot be known. */
  readonly stats: Stats | undefined
  #isClosed = false

  /** @param file a path, or `-` for standard input. @throws UsageError if there is no such file. */
  constructor(private readonly file: string) {
    this.stats = file === '-' ? statsOfStandardInput() : statsOf(file)
    if (this.stats?.isDirectory()) throw this.#failure('it is a directory')
    this.#stream = file === '-' ? process.stdin : createReadStream(file)
  }

  /** In bytes; undefined if the input is not a file. */
  get size(): number | undefined {
    return this.stats?.isFile() ? this.stats.size : undefined
  }

  /** The lines in groups of this many; the last group may be smaller. @throws UsageError if the file cannot be read. */
  async *groups(size: number): AsyncIterableIterator<Line[]> {
    let group: Line[] = []
    let index = 0
    let number = 0
    let bytes = 0
    for await (const text of this.#lines()) {
      number++
      bytes += text.length + 1
      const parsed = parse(text, number)
      if (!parsed) continue
      group.push({ index: index++, number, bytes, parsed })
      bytes = 0
      if (group.length < size) continue
      yield group
      group = []
    }
    if (group.length > 0) yield group
  }

  /** Nobody reads on. Ends `groups`. */
  close(): void {
    this.#isClosed = true
    this.#stream.destroy()
  }

  async *#lines(): AsyncIterableIterator<Buffer> {
    /** The beginning of a line whose end has not been read. */
    let begun: Buffer[] = []
    try {
      for await (const data of this.#stream as AsyncIterable<Buffer>) {
        let from = 0
        for (let to = data.indexOf(NEWLINE); to >= 0; to = data.indexOf(NEWLINE, from)) {
          const end = data.subarray(from, to)
          yield begun.length === 0 ? end : Buffer.concat([...begun, end])
          begun = []
          from = to + 1
        }
        if (from < data.length) begun.push(data.subarray(from))
      }
    } catch (error) {
      if (this.#isClosed) return
      throw this.#failure((error as Error).message)
    }
    if (begun.length > 0) yield Buffer.concat(begun)
  }

  #failure(why: string): UsageError {
    return new UsageError(`cannot read --input ${this.file}: ${why}`)
  }
}

// It throws for bytes that are not UTF-8, and leaves out a byte order mark.
const utf8 = new TextDecoder('utf-8', { fatal: true })

/** Undefined for an empty line. */
function parse(bytes: Buffer, number: number): Line['parsed'] | undefined {
  try {
    const text = utf8.decode(bytes)
    return text.trim() === '' ? undefined : { value: JSON.parse(text) }
  } catch (error) {
    const why = error instanceof SyntaxError ? `is not JSON: ${error.message}` : 'is not UTF-8'
    return { error: new UsageError(`line ${number} of the input ${why}`) }
  }
}

function statsOf(file: string): Stats {
  try {
    return statSync(file)
  } catch (error) {
    throw new UsageError(`cannot read --input ${file}: ${(error as Error).message}`)
  }
}

function statsOfStandardInput(): Stats | undefined {
  try {
    return fstatSync(0)
  } catch {
    return undefined
  }
}
