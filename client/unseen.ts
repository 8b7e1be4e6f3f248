import { FarpoolError } from './errors.js'

/** The failures that nobody has looked at, by number. */
const failures = new Map<number, unknown>()
let count = 0
let isListening = false

/** The results that the program has dropped. */
const dropped = new FinalizationRegistry<number>((number) => {
  if (failures.size > 0 && failures.has(number)) report()
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
  if (!isListening) process.once('beforeExit', report)
  isListening = true
  return () => {
    failures.delete(number)
    dropped.unregister(result)
  }
}

const noop = (): void => {}

/** One warning for all of them: there may be a hundred thousand. */
function report(): void {
  isListening = false
  process.off('beforeExit', report)
  const [first] = failures.values()
  const many = failures.size
  if (many === 0) return
  failures.clear()
  const what =
    many === 1
      ? 'a call failed and nobody looked at its result'
      : `${many} calls failed and nobody looked at their results; the first`
  const warning = new Error(`${what}: ${first instanceof Error ? first.message : String(first)}`, { cause: first })
  warning.name = 'FarpoolUnseenError'
  process.emitWarning(warning)
}
