import { once } from 'node:events'
import { createReadStream, createWriteStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import type { Writable } from 'node:stream'
import { finished } from 'node:stream/promises'
import { Command, Option } from 'commander'
import { Pool } from '../client/index.js'
import { addressOption, count, json, jsonOption } from './command-options.js'
import { Exit, errorJson, fail, UsageError } from './exit-codes.js'

/** A progress bar. It draws only if its output is a terminal, at most ten times a second. */
export class Progress {
  readonly #started = performance.now()
  #drawn = Number.NEGATIVE_INFINITY

  constructor(
    private readonly label: string,
    private readonly out: NodeJS.WriteStream = process.stderr,
  ) {}

  /** @param fraction the part that is done, from 0 to 1; undefined if the total is unknown. */
  update(done: number, fraction: number | undefined): void {
    const now = performance.now()
    if (!this.out.isTTY || now - this.#drawn < 100) return
    this.#drawn = now
    this.#draw(done, fraction)
  }

  /** Draws the final state and ends the line. */
  end(done: number): void {
    if (!this.out.isTTY) return
    this.#draw(done, 1)
    this.out.write('\n')
  }

  #draw(done: number, fraction: number | undefined): void {
    const seconds = (performance.now() - this.#started) / 1000
    const rate = seconds > 0 ? `${(done / seconds).toFixed(done / seconds < 10 ? 1 : 0)}/s` : ''
    const width = 24
    const filled = Math.round(Math.min(1, fraction ?? 0) * width)
    const bar =
      fraction === undefined ? '' : `${'█'.repeat(filled)}${'░'.repeat(width - filled)} ${Math.round(fraction * 100)}% `
    this.out.write(`\r\x1b[K${this.label} ${bar}${done} ${rate}`)
  }
}

interface Options {
  address: string
  input: string
  output: string
  chunksize: number
  unordered?: boolean
  keepGoing?: boolean
  kwargs?: Record<string, unknown>
  json?: boolean
}

/** farpool map: calls a function for each line of a file, as a stream, so that neither file has to fit into memory. */
export const mapCommand = () =>
  new Command('map')
    .description('call a function with each line of a JSON Lines file; write each result as a line')
    .argument('<function>', 'the name of the function')
    .addOption(new Option('-i, --input <file>', 'file with one JSON value per line; -: standard input').default('-'))
    .addOption(
      new Option(
        '-o, --output <file>',
        'file for the results, one JSON value per line, in the order of the input; -: standard output',
      ).default('-'),
    )
    .addOption(addressOption())
    .addOption(
      new Option('-c, --chunksize <n>', 'number of lines that a worker gets as one task').default(1).argParser(count()),
    )
    .addOption(new Option('-u, --unordered', 'write each result as soon as it is there, in any order'))
    .addOption(
      new Option(
        '--keep-going',
        'after a call that fails, write {"error": …} as its line and go on; the exit code is still 1',
      ),
    )
    .addOption(
      new Option('-k, --kwargs <json>', 'keyword arguments of every call, as a JSON object').argParser(json('object')),
    )
    .addOption(jsonOption())
    .action(async (name: string, options: Options) => {
      try {
        await run(name, options)
      } catch (error) {
        fail(error, options.json)
      }
    })

async function run(name: string, options: Options): Promise<void> {
  const input = new Lines(options.input, await sizeOf(options.input))
  await using pool = new Pool(options.address, { encoding: 'json' })
  const fn = { name, args: [], kwargs: options.kwargs }
  const results = pool[options.unordered ? 'imapUnordered' : 'imap'](fn, input, { chunksize: options.chunksize })
  // Opened with the first result, so that a wrong name or address does not overwrite an existing file.
  let output: Writable | undefined
  const write = async (line: unknown) => {
    output ??= options.output === '-' ? process.stdout : createWriteStream(options.output)
    if (!output.write(`${JSON.stringify(line)}\n`)) await once(output, 'drain')
  }
  const progress = new Progress(name)
  let done = 0
  let failed = 0
  for (;;) {
    try {
      const step = await results.next()
      if (step.done) break
      await write(step.value)
    } catch (error) {
      if (!options.keepGoing || error instanceof UsageError || !isItemError(error)) throw error
      failed++
      await write({ error: errorJson(error) })
    }
    progress.update(++done, input.fraction)
  }
  progress.end(done)
  if (output && output !== process.stdout) {
    output.end()
    await finished(output)
  }
  if (options.json && options.output !== '-')
    process.stdout.write(`${JSON.stringify({ ok: failed === 0, items: done, failed })}\n`)
  else if (failed > 0) process.stderr.write(`farpool: ${done} items, ${failed} failed\n`)
  if (failed > 0) process.exitCode = Exit.FAILED
}

/** True if the error belongs to one item: results of other items can follow. */
const isItemError = (error: unknown): boolean => error instanceof Error && 'index' in error && error.index !== undefined

async function sizeOf(file: string): Promise<number | undefined> {
  if (file === '-') return undefined
  const found = await stat(file).catch((error: Error) => {
    throw new UsageError(`cannot read --input ${file}: ${error.message}`)
  })
  if (found.isDirectory()) throw new UsageError(`cannot read --input ${file}: it is a directory`)
  return found.isFile() ? found.size : undefined
}

/** Reads the values of a JSON Lines file on demand. Skips empty lines. */
class Lines implements AsyncIterable<unknown> {
  #readBytes = 0

  constructor(
    private readonly file: string,
    private readonly bytes: number | undefined,
  ) {}

  /** The part of the file that has been read, from 0 to 1; undefined if its size is unknown. */
  get fraction(): number | undefined {
    return this.bytes === undefined || this.bytes === 0 ? undefined : this.#readBytes / this.bytes
  }

  async *[Symbol.asyncIterator](): AsyncIterator<unknown> {
    const stream = this.file === '-' ? process.stdin : createReadStream(this.file)
    let number = 0
    for await (const line of createInterface({ input: stream, crlfDelay: Number.POSITIVE_INFINITY })) {
      number++
      this.#readBytes += Buffer.byteLength(line) + 1
      if (line.trim() === '') continue
      yield parse(line, number)
    }
  }
}

function parse(line: string, number: number): unknown {
  try {
    return JSON.parse(line)
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    throw new UsageError(`line ${number} of the input is not JSON: ${why}`)
  }
}
