import type { RemoteError } from '../proto/gen/farpool/v1/failure.js'
import { Failure } from '../wire/failure.js'
import { Code } from '../wire/reason.js'
import { truncateUtf8 } from '../wire/truncate.js'

/** The longest message in a frame, in bytes of UTF-8. */
const MESSAGE_BYTES = 8 * 1024

/** The longest stack in a frame, in bytes of UTF-8. */
const STACK_BYTES = 8 * 1024

/** The longest name of an error's type, in bytes of UTF-8. */
const TYPE_BYTES = 128

/** How many causes of an error are sent. */
const MAX_CAUSES = 8

/** A thrown value in a form that can be sent. Never throws, although the getters and Proxies of users may. */
export function describeThrown(thrown: unknown, stacks: boolean, causes = MAX_CAUSES): RemoteError {
  try {
    if (!isError(thrown)) {
      const message = truncateUtf8(printed(thrown), MESSAGE_BYTES)
      return { type: thrown === null ? 'null' : typeof thrown, message, stack: '', cause: undefined }
    }
    const { name, message, stack, cause } = thrown
    return {
      type: truncateUtf8(String(name || thrown.constructor?.name || 'Error'), TYPE_BYTES),
      message: truncateUtf8(String(message), MESSAGE_BYTES),
      stack: stacks && typeof stack === 'string' ? truncateUtf8(framesOf(stack), STACK_BYTES) : '',
      cause: cause === undefined || causes === 0 ? undefined : describeThrown(cause, stacks, causes - 1),
    }
  } catch {
    return {
      type: 'unknown',
      message: 'an object whose properties throw when they are read',
      stack: '',
      cause: undefined,
    }
  }
}

/** The failure of a task whose function threw. A Failure, for example of a payload that is not valid, stays as it is. */
export function functionFailure(thrown: unknown, stacks: boolean): Failure {
  if (isFailure(thrown)) return thrown
  const remote = describeThrown(thrown, stacks)
  const code = statusCode(thrown)
  return new Failure('FUNCTION_ERROR', remote.message, {
    remote,
    metadata: { type: remote.type },
    ...(code === undefined ? {} : { code }),
  })
}

function isFailure(thrown: unknown): thrown is Failure {
  try {
    return thrown instanceof Failure
  } catch {
    return false
  }
}

/**
 * The gRPC status that the function chose: a `code` of 1 to 16 on its error, as in grpc-js. UNAVAILABLE is ignored, because
 * gRPC clients send an UNAVAILABLE call again by themselves and this one has run.
 */
function statusCode(thrown: unknown): number | undefined {
  try {
    const code = isError(thrown) && 'code' in thrown ? thrown.code : undefined
    return typeof code === 'number' && Number.isInteger(code) && code >= 1 && code <= 16 && code !== Code.UNAVAILABLE
      ? code
      : undefined
  } catch {
    return undefined
  }
}

// An error of another realm (node:vm) is not an instance of this realm's Error.
const isError = (thrown: unknown): thrown is Error =>
  thrown instanceof Error || Object.prototype.toString.call(thrown) === '[object Error]'

/** A stack without its first lines, which repeat the type and the message. */
function framesOf(stack: string): string {
  const first = stack.search(/^\s+at /m)
  return first < 0 ? '' : stack.slice(first)
}

function printed(thrown: unknown): string {
  if (typeof thrown !== 'object' || thrown === null) return String(thrown)
  return JSON.stringify(thrown) ?? Object.prototype.toString.call(thrown)
}
