import { FarpoolError, UnavailableError } from '../client/index.js'
import { Failure } from '../server/index.js'

/** The exit codes. docs/cli.md and `farpool --help` list them too. */
export const Exit = {
  OK: 0,
  /** The call or an item of the map failed, the server could not start, or the server is not serving. */
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

export function exitCodeOf(error: unknown): number {
  if (error instanceof UsageError) return Exit.USAGE
  if (error instanceof UnavailableError) return Exit.UNAVAILABLE
  const reason = error instanceof FarpoolError || error instanceof Failure ? error.reason : undefined
  return reason === 'BAD_REQUEST' || reason === 'ARGUMENT_ENCODE_FAILED' ? Exit.USAGE : Exit.FAILED
}

/** An error as a JSON object, for --json. */
export const errorJson = (error: unknown) =>
  error instanceof FarpoolError || error instanceof Failure
    ? {
        message: error.message,
        reason: error.reason,
        code: error.code,
        ...(error.started !== undefined && { started: error.started }),
        ...(Object.keys(error.metadata).length > 0 && { metadata: error.metadata }),
      }
    : { message: error instanceof Error ? error.message : String(error) }

/** Sets the exit code and prints the error: as text on standard error, or as JSON on standard output. */
export function fail(error: unknown, json = false): void {
  process.exitCode = exitCodeOf(error)
  if (json) {
    process.stdout.write(`${JSON.stringify({ ok: false, error: errorJson(error) })}\n`)
    return
  }
  const { message } = errorJson(error)
  const reason = error instanceof FarpoolError || error instanceof Failure ? ` (${error.reason})` : ''
  process.stderr.write(`farpool: ${message}${reason}\n`)
  const remote = error instanceof FarpoolError && error.cause instanceof Error ? error.cause.stack : undefined
  if (remote) process.stderr.write(`${remote}\n`)
}
