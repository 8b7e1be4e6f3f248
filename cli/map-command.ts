import { accessSync, constants, type Stats, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { type Command, Option } from 'commander'
import { FarpoolError, Pool, partial } from '../client/index.js'
import { ReorderBuffer } from '../wire/chunks.js'
import { printableJson } from '../wire/printable.js'
import { isOfRequest } from '../wire/reason.js'
import { connectionOf, count, functionArgument, json, jsonOption, poolCommand } from './command-options.js'
import { Exit, errorJson, fail, LineError, UsageError } from './exit-codes.js'
import { JsonLines, type Line } from './json-lines.js'
import { Output, print } from './output.js'
import { Progress } from './progress.js'

interface Options {
  address: string
  input: string
  output: string
  chunksize: number
  star?: boolean
  unordered?: boolean
  keepGoing?: boolean
  kwargs?: Record<string, unknown>
  timeout?: number
  runTimeout?: number
  retries?: number
  json?: boolean
}

/** farpool map: calls a function for each line of a file, as a stream, so that neither file has to fit into memory. */
export const mapCommand = () =>
  poolCommand('map')
    .description('call a function with each line of a JSON Lines file; write each result as a line')
    .addArgument(functionArgument())
    .addOption(new Option('-i, --input <file>', 'file with one JSON value per line; -: standard input').default('-'))
    .addOption(
      new Option(
        '-o, --output <file>',
        'file for the results, one JSON value per line, in the order of the input; -: standard output',
      ).default('-'),
    )
    .addOption(
      new Option('-c, --chunksize <n>', 'number of lines that a worker gets as one task').default(1).argParser(count()),
    )
    .addOption(new Option('-s, --star', 'each line is a JSON array of arguments'))
    .addOption(
      new Option(
        '-u, --unordered',
        'write each result as soon as it is there, in any order, as {"index": …, "value": …}',
      ),
    )
    .addOption(
      new Option(
        '--keep-going',
        'go on after a line that fails: write {"index": …, "error": …} for it, and {"index": …, "value": …} for the others; the exit code is still 1',
      ),
    )
    .addOption(
      new Option('-k, --kwargs <json>', 'keyword arguments of every call, as a JSON object').argParser(json('object')),
    )
    .addOption(
      new Option(
        '-t, --timeout <ms>',
        'fail a line, or chunk, if it has no result after this many milliseconds in the queue and running (default: no limit)',
      ).argParser(count()),
    )
    .addOption(
      new Option(
        '--run-timeout <ms>',
        'fail a line, or chunk, if its function runs longer than this many milliseconds (default: set by the function or the server)',
      ).argParser(count()),
    )
    .addOption(
      new Option(
        '--retries <n>',
        'how often to run a line, or chunk, again if its worker dies (default: set by the function)',
      ).argParser(count(0)),
    )
    .addOption(jsonOption())
    .action(async (name: string, options: Options, command: Command) => {
      try {
        await run(name, options, connectionOf(command))
      } catch (error) {
        await fail(error, options.json)
      }
    })

/** How many lines and chunks may be under way, or wait to be written. */
const WINDOW = { chunks: 256, bytes: 8 * 1024 * 1024 }

interface Outcome {
  readonly line: Line
  readonly result: PromiseSettledResult<unknown>
}

async function run(name: string, options: Options, connection: ReturnType<typeof connectionOf>): Promise<void> {
  const input = new JsonLines(options.input)
  checkOutput(options.output, input.stats)
  const progress = new Progress(name)
  // Opened with the first result, so that a wrong name or address does not overwrite an existing file.
  let output: Output | undefined
  const totals = { done: 0, failed: 0, bytes: 0 }
  const write = async (outcomes: readonly Outcome[]) => {
    for (const { line, result } of outcomes) {
      totals.done++
      totals.bytes += line.bytes
      if (result.status === 'rejected') {
        totals.failed++
        const error = new LineError(line.number, line.index, result.reason)
        if (!options.keepGoing || !isOfItem(result.reason)) throw error
      }
      output ??= new Output(options.output)
      await output.write(`${printableJson(toWrite(line.index, result, options))}\n`)
      progress.update(totals.done, input.size === undefined ? undefined : totals.bytes / Math.max(1, input.size))
    }
  }
  try {
    await using pool = new Pool(options.address, { encoding: 'json', ...connection })
    await forEachChunk(input.groups(options.chunksize), !options.unordered, callsOf(pool, name, options), write)
    // Without any result, the file is emptied.
    if (options.output !== '-') output ??= new Output(options.output)
    await output?.end()
    progress.complete()
  } catch (error) {
    progress.stop()
    // What was written before arrives; the first error counts.
    await output?.end().catch(() => {})
    throw error
  } finally {
    input.close()
  }
  const { done, failed } = totals
  if (failed > 0) process.exitCode = Exit.FAILED
  if (options.json && options.output !== '-')
    await print(`${JSON.stringify({ ok: failed === 0, items: done, failed })}\n`)
  else if (failed > 0) process.stderr.write(`farpool: ${done} ${done === 1 ? 'item' : 'items'}, ${failed} failed\n`)
}

/** Calls the function with the lines of one chunk. */
const callsOf =
  (pool: Pool, name: string, { star, kwargs, timeout, runTimeout, retries }: Options) =>
  async (lines: readonly Line[]): Promise<Outcome[]> => {
    const values = lines.flatMap(({ parsed }) => ('value' in parsed ? [parsed.value] : []))
    const options = {
      chunksize: Math.max(1, values.length),
      settle: true,
      ...(timeout !== undefined && { timeout }),
      ...(runTimeout !== undefined && { runTimeout }),
      ...(retries !== undefined && { retries }),
    } as const
    const fn = partial(name, [], kwargs)
    const call = star ? pool.starmap(fn, values as readonly unknown[][], options) : pool.map(fn, values, options)
    const results: readonly PromiseSettledResult<unknown>[] = await call.catch((reason: unknown) => {
      if (!isOfItem(reason)) throw reason
      return values.map(() => ({ status: 'rejected' as const, reason }))
    })
    let at = 0
    return lines.map((line) => {
      const { parsed } = line
      if ('error' in parsed) return { line, result: { status: 'rejected', reason: parsed.error } }
      return { line, result: results[at++] as PromiseSettledResult<unknown> }
    })
  }

/** With --unordered and --keep-going a result has to say which line it belongs to, and an error is no result. */
function toWrite(index: number, result: PromiseSettledResult<unknown>, { unordered, keepGoing }: Options): unknown {
  if (result.status === 'rejected') return { index, error: errorJson(result.reason) }
  return unordered || keepGoing ? { index, value: result.value ?? null } : result.value
}

/** Whether the error belongs to one line: others can succeed. */
const isOfItem = (error: unknown): boolean =>
  error instanceof UsageError ||
  (error instanceof FarpoolError && !isOfRequest(error.reason) && error.reason !== 'POOL_TERMINATED')

/**
 * Calls with each chunk, a window of chunks at a time, and writes what comes back, one after the other: in the order of
 * the input, or as it arrives. Rejects with the first error of all three.
 */
async function forEachChunk(
  chunks: AsyncIterable<readonly Line[]>,
  ordered: boolean,
  call: (chunk: readonly Line[]) => Promise<Outcome[]>,
  write: (outcomes: readonly Outcome[]) => Promise<void>,
): Promise<void> {
  const order = new ReorderBuffer<Outcome[]>()
  const arrived: Outcome[][] = []
  const held = { chunks: 0, bytes: 0 }
  let read = 0
  let isReading = true
  let failure: { readonly error: unknown } | undefined
  let wakeWriter = (): void => {}
  let wakeReader = (): void => {}
  const failed = (error: unknown) => {
    failure ??= { error }
    wakeWriter()
  }
  const reading = async () => {
    for await (const chunk of chunks) {
      const number = read++
      held.chunks++
      held.bytes += bytesOf(chunk)
      call(chunk).then((outcomes) => {
        arrived.push(...(ordered ? order.push(number, outcomes) : [outcomes]))
        wakeWriter()
      }, failed)
      while (held.chunks >= WINDOW.chunks || held.bytes >= WINDOW.bytes) {
        await new Promise<void>((resolve) => {
          wakeReader = resolve
        })
      }
    }
    isReading = false
    wakeWriter()
  }
  reading().catch(failed)
  for (;;) {
    const outcomes = arrived.shift()
    if (outcomes) {
      await write(outcomes)
      held.chunks--
      held.bytes -= bytesOf(outcomes.map(({ line }) => line))
      wakeReader()
    } else if (failure) throw failure.error
    else if (!isReading && held.chunks === 0) return
    else {
      await new Promise<void>((resolve) => {
        wakeWriter = resolve
      })
    }
  }
}

const bytesOf = (lines: readonly Line[]): number => lines.reduce((sum, { bytes }) => sum + bytes, 0)

/** Before any function runs. @throws UsageError if results cannot be written there, or would overwrite the input. */
function checkOutput(file: string, input: Stats | undefined): void {
  if (file === '-') return
  const wrong = (why: string) => new UsageError(`cannot write --output ${file}: ${why}`)
  let found: Stats | undefined
  try {
    found = statSync(file, { throwIfNoEntry: false })
    accessSync(found ? file : dirname(file), constants.W_OK)
  } catch (error) {
    throw wrong((error as Error).message)
  }
  if (found?.isDirectory()) throw wrong('it is a directory')
  if (found?.isFile() && input && found.ino === input.ino && found.dev === input.dev) throw wrong('it is the input')
}
