import { FarpoolError, UnavailableError } from '../client/index.js'
import { Failure } from '../server/index.js'
import { printable, printableJson } from '../wire/printable.js'
import { reasonOf } from '../wire/values/value-errors.js'
import { OutputError, print } from './output.js'

/** The exit codes. docs/reference/cli.md and `farpool --help` list them too. */
export const Exit = {
  OK: 0,
  /** The call or an item of the map failed, results could not be written, or the server could not start or is not serving. */
  FAILED: 1,
  /** The command line or its input is wrong. */
  USAGE: 2,
  /** No server answers at the address. */
  UNAVAILABLE: 3,
} as const

/** The command line or its input is wrong. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

/** The error of one line of a map's input. */
export class LineError extends Error {
  override readonly name = 'LineError'

  /**
   * @param line the number of the line, from 1.
   * @param index the number of the line among those that are not empty, from 0.
   */
  constructor(
    readonly line: number,
    readonly index: number,
    override readonly cause: unknown,
  ) {
    super(`line ${line}: ${reasonOf(cause)}`)
  }
}

export function exitCodeOf(error: unknown): number {
  if (error instanceof LineError) return exitCodeOf(error.cause)
  if (error instanceof UsageError) return Exit.USAGE
  if (error instanceof OutputError && error.isReaderGone) return Exit.OK
  if (error instanceof UnavailableError) return Exit.UNAVAILABLE
  const reason = error instanceof FarpoolError || error instanceof Failure ? error.reason : undefined
  return reason === 'BAD_REQUEST' || reason === 'ARGUMENT_ENCODE_FAILED' ? Exit.USAGE : Exit.FAILED
}

/** An error as a JSON object, for --json. */
export function errorJson(error: unknown): { readonly message: string; readonly [fact: string]: unknown } {
  if (error instanceof LineError) {
    const { line, index, cause } = error
    return { ...errorJson(cause), line, index }
  }
  const message = reasonOf(error)
  if (error instanceof FarpoolError || error instanceof Failure) {
    const { reason, code, started, metadata } = error
    return {
      message,
      reason,
      code,
      ...(started !== undefined && { started }),
      ...(Object.keys(metadata).length > 0 && { metadata }),
    }
  }
  return error instanceof UsageError
    ? { message, reason: 'BAD_REQUEST', code: 'INVALID_ARGUMENT' }
    : { message, reason: 'INTERNAL', code: 'INTERNAL' }
}

/** Sets the exit code and prints the error: as text on standard error, or as JSON on standard output. Never rejects. */
export async function fail(error: unknown, json = false): Promise<void> {
  process.exitCode = exitCodeOf(error)
  if (error instanceof OutputError) {
    // Standard output may be what cannot be written, so this goes to standard error.
    if (!error.isReaderGone) process.stderr.write(`farpool: ${printable(error.message)}\n`)
    return
  }
  if (json) return print(`${printableJson({ ok: false, error: errorJson(error) })}\n`).catch((failed) => fail(failed))
  const inner = error instanceof LineError ? error.cause : error
  const reason = inner instanceof FarpoolError || inner instanceof Failure ? ` (${inner.reason})` : ''
  process.stderr.write(`farpool: ${printable(reasonOf(error))}${reason}\n`)
  const remote = remoteStack(inner)
  if (remote) process.stderr.write(`${printable(remote)}\n`)
}

/** What the function, or the initializer, threw. */
export function remoteStack(error: unknown): string | undefined {
  if (error instanceof FarpoolError) return error.cause instanceof Error ? error.cause.stack : undefined
  const remote = error instanceof Failure ? error.remote : undefined
  return remote?.stack ? `${remote.type}: ${remote.message}\n${remote.stack}` : undefined
}
