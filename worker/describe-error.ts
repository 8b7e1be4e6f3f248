import type { RemoteError } from '../proto/gen/farpool/v1/failure.js'
import { Failure } from '../wire/failure.js'
import { Code } from '../wire/reason.js'
import { truncateUtf8 } from '../wire/truncate.js'

/** A failure's message inside a frame; longer ones are cut. */
const FAILURE_MESSAGE_BYTES = 8 * 1024

/** A remote stack inside a frame; longer ones are cut. */
const FAILURE_STACK_BYTES = 8 * 1024

/** How many causes of an error travel. */
const FAILURE_CAUSES = 8

/** What was thrown, whatever it is, in a form that can be sent. Never throws: hostile getters and proxies end here. */
export function describe(thrown: unknown, stacks: boolean, causes = FAILURE_CAUSES): RemoteError {
  try {
    if (!isError(thrown)) {
      const message = truncateUtf8(printed(thrown), FAILURE_MESSAGE_BYTES)
      return { type: thrown === null ? 'null' : typeof thrown, message, stack: '', cause: undefined }
    }
    const { name, message, stack, cause } = thrown
    return {
      type: truncateUtf8(String(name || thrown.constructor?.name || 'Error'), 128),
      message: truncateUtf8(String(message), FAILURE_MESSAGE_BYTES),
      stack: stacks && typeof stack === 'string' ? truncateUtf8(framesOf(stack), FAILURE_STACK_BYTES) : '',
      cause: cause === undefined || causes === 0 ? undefined : describe(cause, stacks, causes - 1),
    }
  } catch {
    return { type: 'unknown', message: 'an object that throws when it is looked at', stack: '', cause: undefined }
  }
}

/** The failure of a task whose function threw. A Failure (a bad payload, say) stays what it is. */
export function functionFailure(thrown: unknown, stacks: boolean): Failure {
  if (isFailure(thrown)) return thrown
  const remote = describe(thrown, stacks)
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
 * The gRPC status that the function chose: a number from 1 to 16 as the error's `code`, as grpc-js has it. Not
 * UNAVAILABLE: gRPC clients send such a call again by themselves, and this one has run.
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

// By its shape, not by its class: an error of another realm (node:vm) is no instance of ours.
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
