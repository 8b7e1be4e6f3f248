import { InvalidArgumentError, Option } from 'commander'
import { UsageError } from './exit-codes.js'

/** Options that several commands share, and how their values are read. */
export const addressOption = () =>
  new Option('-a, --address <address>', 'the server: host:port or unix:/path')
    .env('FARPOOL_ADDRESS')
    .default('127.0.0.1:50051')

export const jsonOption = () => new Option('--json', 'print one JSON object, also for errors')

/** A whole number of at least `least`. */
export const count =
  (least = 1) =>
  (text: string): number => {
    const value = Number(text)
    if (text.trim() !== '' && Number.isSafeInteger(value) && value >= least) return value
    throw new InvalidArgumentError(`it must be an integer, ${least} or more.`)
  }

/** A JSON value of a kind. */
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

/** An argument of a call: JSON where it is some, otherwise the text itself. `fib 30` passes a number, `hello Ann` a string. */
export function callArgument(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    if (/^\s*[[{"]/.test(text))
      throw new UsageError(`the argument ${text} looks like JSON but is not; quote it for your shell`)
    return text
  }
}
