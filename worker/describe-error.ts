import { inspect } from 'node:util'
import type { RemoteError } from '../proto/gen/farpool/routing/v1/routing.js'
import { Failure } from '../wire/failure.js'
import { Code } from '../wire/reason.js'
import { truncateUtf8 } from '../wire/truncate.js'
import { FRAME, userFrames } from '../wire/user-frames.js'
import { encodePayload, type Kind } from '../wire/values/payload.js'

/** The longest message in a frame, in bytes of UTF-8. */
const MESSAGE_BYTES = 8 * 1024

/** The longest stack in a frame, in bytes of UTF-8. */
const STACK_BYTES = 8 * 1024

/** The most properties of an error in a frame, in encoded bytes. */
const PROPERTIES_BYTES = 8 * 1024

/** The longest name of an error's type, and the longest code, in bytes of UTF-8. */
const TYPE_BYTES = 128

/** How deep causes and inner errors of an error are sent, and how many errors are sent altogether. */
const MAX_DEPTH = 8
const MAX_ERRORS = 32

/** How errors are described. */
export interface Description {
  /** Whether stacks are sent. */
  readonly stacks: boolean
  /** The encoding of properties. */
  readonly kind: Exclude<Kind, 'raw'>
}

/** A thrown value in a form that can be sent. Never throws, although the getters and Proxies of users may. */
export const describeThrown = (thrown: unknown, description: Description): RemoteError =>
  new Describer(description).describe(thrown, 0)

/** The failure of a task whose function threw. A Failure, for example of a payload that is not valid, stays as it is. */
export function functionFailure(thrown: unknown, description: Description): Failure {
  if (attempt(() => thrown instanceof Failure, false)) return thrown as Failure
  const remote = describeThrown(thrown, description)
  const code = statusCode(thrown)
  return new Failure('FUNCTION_ERROR', remote.message, {
    remote,
    metadata: { type: remote.type },
    ...(code === undefined ? {} : { code }),
  })
}

/** Properties that have fields of their own, or that an error of the client has by itself. */
const FIELDS: ReadonlySet<string> = new Set(['name', 'message', 'stack', 'cause'])

/** One thrown value, with its causes and inner errors. */
class Describer {
  #left = MAX_ERRORS

  constructor(private readonly description: Description) {}

  describe(thrown: unknown, depth: number): RemoteError {
    this.#left--
    try {
      if (isError(thrown)) return this.#error(thrown, depth)
      const message = truncateUtf8(printed(thrown), MESSAGE_BYTES)
      const type = thrown === null ? 'null' : typeof thrown
      const isObject = type === 'object' && !Array.isArray(thrown)
      return { ...NOTHING, type, message, ...(isObject && this.#facts(thrown as object, [])) }
    } catch {
      return { ...NOTHING, type: 'unknown', message: 'an object whose properties throw when they are read' }
    }
  }

  #error(error: Error, depth: number): RemoteError {
    const stack = framesOf(error)
    const { cause } = error
    const mayNest = () => depth < MAX_DEPTH && this.#left > 0
    const inner = innerErrors(error)
    const { stacks } = this.description
    return {
      type: truncateUtf8(typeOf(error), TYPE_BYTES),
      message: truncateUtf8(String(error.message), MESSAGE_BYTES),
      stack: stacks ? truncateUtf8(stack, STACK_BYTES) : '',
      stackWithheld: !stacks && stack !== '',
      cause: cause === undefined || !mayNest() ? undefined : this.describe(cause, depth + 1),
      errors: inner.flatMap((one) => (mayNest() ? [this.describe(one, depth + 1)] : [])),
      ...this.#facts(error, inner),
    }
  }

  /** The code and the properties. @param inner errors that are sent as such, and not as the property `errors`. */
  #facts(thrown: object, inner: readonly unknown[]): Pick<RemoteError, 'code' | 'properties'> {
    const code = attempt(() => ('code' in thrown ? thrown.code : undefined), undefined)
    // A code may also be a getter of the class.
    const names = new Set([...Object.keys(thrown), ...(code === undefined ? [] : ['code'])])
    for (const name of FIELDS) names.delete(name)
    if (inner.length > 0) names.delete('errors')
    if (typeof code === 'string') names.delete('code')
    return {
      code: typeof code === 'string' ? truncateUtf8(code, TYPE_BYTES) : '',
      properties: this.#properties(thrown, names),
    }
  }

  /** Leaves out what cannot be encoded, and what would make it too long. */
  #properties(thrown: object, names: Iterable<string>): Uint8Array | undefined {
    const { kind } = this.description
    const kept: [string, unknown][] = []
    let left = PROPERTIES_BYTES
    for (const name of names) {
      try {
        const value: unknown = (thrown as Record<string, unknown>)[name]
        // Encoded for itself: what holds for it holds for the whole object.
        const bytes = encodePayload({ [name]: value }, kind).length
        if (value === undefined || bytes > left) continue
        left -= bytes
        kept.push([name, value])
      } catch {
        // A getter that throws, or a value that cannot be sent, such as a function or a socket.
      }
      if (left < MIN_PROPERTY_BYTES) break
    }
    if (kept.length === 0) return undefined
    return attempt(() => encodePayload(Object.fromEntries(kept), kind), undefined)
  }
}

/** No property is shorter, with the payload around it. */
const MIN_PROPERTY_BYTES = 4

const NOTHING = {
  stack: '',
  cause: undefined,
  code: '',
  properties: undefined,
  errors: [],
  stackWithheld: false,
} satisfies Partial<RemoteError>

/** The errors that an AggregateError, or an error like it, gathers. Another property `errors` is one like any other. */
function innerErrors(error: Error): readonly unknown[] {
  const errors: unknown = attempt(() => (error as AggregateError).errors, undefined)
  if (!Array.isArray(errors)) return []
  return error instanceof AggregateError || errors.some((one) => attempt(() => isError(one), false)) ? errors : []
}

/** Names that a class of a user inherits from the language if it has none of its own. */
const INHERITED_NAMES: ReadonlySet<string> = new Set([
  'Error',
  'AggregateError',
  'EvalError',
  'RangeError',
  'ReferenceError',
  'SuppressedError',
  'SyntaxError',
  'TypeError',
  'URIError',
])

/** The name of an error, or of its class if it only inherits one from the language: `class HttpError extends Error {}`. */
function typeOf(error: Error): string {
  const { name } = error
  const isInherited = !name || (!Object.hasOwn(error, 'name') && INHERITED_NAMES.has(name))
  return String((isInherited && error.constructor?.name) || name || 'Error')
}

/**
 * The gRPC status that the function chose: a `code` of 1 to 16 on its error, as in grpc-js. UNAVAILABLE is ignored, because
 * gRPC clients send an UNAVAILABLE call again by themselves and this one has run.
 */
function statusCode(thrown: unknown): number | undefined {
  const code = attempt(() => (isError(thrown) && 'code' in thrown ? thrown.code : undefined), undefined)
  return typeof code === 'number' && Number.isInteger(code) && code >= 1 && code <= 16 && code !== Code.UNAVAILABLE
    ? code
    : undefined
}

// An error of another realm (node:vm) is not an instance of this realm's Error.
const isError = (thrown: unknown): thrown is Error =>
  thrown instanceof Error || Object.prototype.toString.call(thrown) === '[object Error]'

/** The frames of a stack that are the user's: none of Node's own modules, and none of farpool's worker. */
function framesOf({ stack, message }: Error): string {
  if (typeof stack !== 'string') return ''
  // The stack repeats the message, of which some lines may look like frames.
  const at = FRAME.test(message) ? stack.indexOf(message) : -1
  return userFrames(at < 0 ? stack : stack.slice(at + message.length), OWN_FOLDERS).join('\n')
}

/** Where the code of the worker is: this folder, and what a source map calls the sources. */
const OWN_FOLDERS = ['.', '../../worker/', '../../wire/'].map((folder) => new URL(folder, import.meta.url).pathname)

function printed(thrown: unknown): string {
  if (typeof thrown !== 'object' || thrown === null) return String(thrown)
  // JSON cannot print cycles and bigints.
  return attempt(() => JSON.stringify(thrown), undefined) ?? inspect(thrown, { depth: 3, breakLength: Infinity })
}

/** What the function returns, or `otherwise` if it throws. */
function attempt<T, F>(read: () => T, otherwise: F): T | F {
  try {
    return read()
  } catch {
    return otherwise
  }
}
