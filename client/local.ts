import { GRACE_MS, modulePath, START_MS } from '../pool/defaults.js'
import { MAX_TIMER_MS } from '../wire/protocol.js'
import { callBack } from './async-result.js'
import { badRequest } from './errors.js'
import type { OwnedPoolOptions } from './options.js'
import { InProcessTransport, type LocalSettings, type OutputLine } from './transport/in-process-transport.js'

export type { OutputLine } from './transport/in-process-transport.js'

/** The options of Pool.local: those of multiprocessing.Pool, and those of its workers. Times are in milliseconds. */
export interface LocalOptions extends OwnedPoolOptions {
  /** The number of worker processes; an integer of 1 or more. Default: the CPUs that this process may use. */
  processes?: number
  /** The encoding. 'cbor' (default) carries all values of docs/reference/values.md, 'json' those that JSON has. */
  encoding?: 'cbor' | 'json'
  /**
   * What happens with the text that functions print: 'inherit' (default) writes it, line by line, to the standard output
   * and standard error of this program, as Python does; 'ignore' drops it; a function gets each line.
   */
  output?: 'inherit' | 'ignore' | ((line: OutputLine) => void)
  /** How long a function may run on after its call was cancelled; then its process is killed. Default: 2,000. */
  graceMs?: number
  /** How long a worker may take to load the modules and to run the initializer; 0 for no limit. Default: 60,000. */
  startTimeoutMs?: number
  /** The largest JavaScript heap of a worker, in MiB; a function that needs more fails with WORKER_OOM. Default: Node's own. */
  maxHeapMb?: number
}

/**
 * The transport of Pool.local. `checkOptions` has checked the options.
 * @throws Failure MODULE_LOAD_FAILED if there is no such module, BadRequestError if an option is invalid.
 */
export function localTransport(modules: readonly (string | URL)[], options: LocalOptions): InProcessTransport {
  const { output = 'inherit', graceMs = GRACE_MS, startTimeoutMs = START_MS, maxHeapMb } = options
  if (modules.length === 0) throw badRequest('modules is an empty array; it must have at least one module')
  return new InProcessTransport({
    modules: modules.map(modulePath),
    graceMs: Math.min(graceMs, MAX_TIMER_MS),
    startTimeoutMs: Math.min(startTimeoutMs, MAX_TIMER_MS),
    maxHeapMb,
    print: printer(output),
  })
}

function printer(output: Required<LocalOptions>['output']): LocalSettings['print'] {
  if (output === 'ignore') return () => undefined
  if (output === 'inherit') return printHere
  if (typeof output === 'function') return (line) => void callBack(output, line)
  throw badRequest(`output is ${JSON.stringify(output)}; it must be 'inherit', 'ignore' or a function`)
}

/** Writes that have not ended, for each stream. While there are any, an error of the stream does not end the program. */
const unwritten = { stdout: 0, stderr: 0 }

/** If the stream is full, its worker waits, not this program. Where nobody reads any more, the text is lost. */
function printHere({ text, stream }: OutputLine): Promise<void> | undefined {
  const target = process[stream]
  let written = (): void => {}
  if (unwritten[stream]++ === 0) target.on('error', ignore)
  const hasRoom = target.write(`${text}\n`, () => {
    if (--unwritten[stream] === 0) target.off('error', ignore)
    written()
  })
  if (hasRoom) return undefined
  return new Promise((resolve) => {
    written = resolve
  })
}

const ignore = (): void => {}
