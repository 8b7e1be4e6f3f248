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

/** A progress bar on a terminal; nothing where standard error is none. */
export class Progress {
  readonly #started = performance.now()
  #drawn = Number.NEGATIVE_INFINITY

  constructor(
    private readonly label: string,
    private readonly out: NodeJS.WriteStream = process.stderr,
  ) {}

  /** @param fraction from 0 to 1; undefined where the end is not known. */
  update(done: number, fraction: number | undefined): void {
    const now = performance.now()
    if (!this.out.isTTY || now - this.#drawn < 100) return
    this.#drawn = now
    this.#draw(done, fraction)
  }

  /** Leaves the last state on a line of its own. */
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

/** farpool map: a function on every line of a file, as a stream. */
export const mapCommand = () =>
  new Command('map')
    .description('call a function with every line of a JSON Lines file; write one line for each result')
    .argument('<function>', 'its name')
    .addOption(new Option('-i, --input <file>', 'one JSON value per line; - for standard input').default('-'))
    .addOption(
      new Option(
        '-o, --output <file>',
        'one JSON value per line, in the order of the input; - for standard output',
      ).default('-'),
    )
    .addOption(addressOption())
    .addOption(new Option('-c, --chunksize <n>', 'lines per task').default(1).argParser(count()))
    .addOption(new Option('-u, --unordered', 'write results as they come'))
    .addOption(
      new Option(
        '--keep-going',
        'write {"error": …} for a line that failed and go on; the exit code is 1 all the same',
      ),
    )
    .addOption(
      new Option('-k, --kwargs <json>', 'keyword arguments of every call, a JSON object').argParser(json('object')),
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
  // Opened when the first result is there: a wrong name or address leaves an old file as it is.
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
      if (!options.keepGoing || error instanceof UsageError || !isOfItem(error)) throw error
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
  const summary = `${done} items, ${failed} failed`
  if (options.json && options.output !== '-')
    process.stdout.write(`${JSON.stringify({ ok: failed === 0, items: done, failed })}\n`)
  else if (failed > 0) process.stderr.write(`farpool: ${summary}\n`)
  if (failed > 0) process.exitCode = Exit.FAILED
}

/** Whether the error belongs to one item, so that others can follow. */
const isOfItem = (error: unknown): boolean => error instanceof Error && 'index' in error && error.index !== undefined

async function sizeOf(file: string): Promise<number | undefined> {
  if (file === '-') return undefined
  const found = await stat(file).catch((error: Error) => {
    throw new UsageError(`cannot read --input ${file}: ${error.message}`)
  })
  if (found.isDirectory()) throw new UsageError(`cannot read --input ${file}: it is a directory`)
  return found.isFile() ? found.size : undefined
}

/** The values of a JSON Lines file, read as they are asked for. Empty lines are passed over. */
class Lines implements AsyncIterable<unknown> {
  #readBytes = 0

  constructor(
    private readonly file: string,
    private readonly bytes: number | undefined,
  ) {}

  /** How much has been read; undefined where the size is not known. */
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
