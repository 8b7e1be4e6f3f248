import { Argument, InvalidArgumentError, Option } from 'commander'
import { UsageError } from './exit-codes.js'

/** The server's address, for all commands but `serve`. */
export const addressOption = () =>
  new Option('-a, --address <address>', 'address of the server: host:port or unix:/path')
    .env('FARPOOL_ADDRESS')
    .default('127.0.0.1:50051')

/** The shared pool, for the commands that ask about one or call a function in it. */
export const poolOption = () =>
  new Option('--pool <name>', 'the shared pool of the server').env('FARPOOL_POOL').default('default')

/** The function that `call` and `map` call. */
export const functionArgument = () => new Argument('<function>', 'the name of the function')

/** Output for scripts. */
export const jsonOption = () => new Option('--json', 'print one JSON object, also for an error')

/** Reads an option's value that is an integer of at least `least`. */
export const count =
  (least = 1) =>
  (text: string): number => {
    const value = Number(text)
    if (text.trim() !== '' && Number.isSafeInteger(value) && value >= least) return value
    throw new InvalidArgumentError(`it must be an integer, ${least} or more.`)
  }

/** Reads an option's value that is a JSON array or a JSON object. */
export const json =
  (kind: 'array' | 'object') =>
  (text: string): unknown => {
    try {
      const value: unknown = JSON.parse(text)
      if (
        kind === 'array' ? Array.isArray(value) : typeof value === 'object' && value !== null && !Array.isArray(value)
      )
        return value
    } catch {}
    throw new InvalidArgumentError(`it must be a JSON ${kind}.`)
  }

/**
 * Reads an argument of a call. Valid JSON is parsed, any other text is passed as a string: `fib 30` passes a number,
 * `hello Ann` passes a string.
 *
 * @throws UsageError for text that begins like a JSON array, object or string but is not valid JSON.
 */
export function callArgument(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    if (/^\s*[[{"]/.test(text))
      throw new UsageError(`the argument ${text} looks like JSON but is not; quote it for your shell`)
    return text
  }
}
