import { printable } from '../wire/printable.js'
import { reasonOf } from '../wire/values/value-errors.js'
import { FarpoolError } from './errors.js'

/** The failures that nobody has looked at, by number. */
const failures = new Map<number, unknown>()
let count = 0
let isListening = false

/** The numbers of results that the program has dropped. A collection of garbage drops many. */
const gone: number[] = []
const dropped = new FinalizationRegistry<number>((number) => {
  if (failures.has(number) && gone.push(number) === 1) setImmediate(() => report(gone.splice(0))).unref()
})

/**
 * Remembers a result that failed before anybody looked at it. If the program drops it, or ends, that becomes a warning of
 * the process: FarpoolUnseenError.
 * @returns a function to call when somebody looks at it.
 */
export function unseen(result: object, error: unknown): () => void {
  // The program itself has ended the call.
  if (error instanceof FarpoolError && (error.reason === 'CANCELLED' || error.reason === 'POOL_TERMINATED')) return noop
  const number = ++count
  failures.set(number, error)
  dropped.register(result, number, result)
  if (!isListening) process.once('beforeExit', beforeExit)
  isListening = true
  return () => {
    failures.delete(number)
    dropped.unregister(result)
  }
}

const noop = (): void => {}

function beforeExit(): void {
  isListening = false
  report([...failures.keys()])
}

/** One warning for all of them: there may be a hundred thousand. */
function report(numbers: readonly number[]): void {
  const errors = numbers.filter((number) => failures.has(number)).map((number) => failures.get(number))
  for (const number of numbers) failures.delete(number)
  if (errors.length === 0) return
  const what =
    errors.length === 1
      ? 'a call failed and nobody looked at its result'
      : `${errors.length} calls failed and nobody looked at their results; the first`
  // Node prints it.
  const warning = new Error(printable(`${what}: ${reasonOf(errors[0])}`), { cause: errors[0] })
  warning.name = 'FarpoolUnseenError'
  process.emitWarning(warning)
}
