import { PayloadKind } from '../proto/gen/farpool/v1/payload.js'
import { asFailure, Failure } from '../wire/failure.js'
import { MAX_TIMER_MS } from '../wire/protocol.js'
import { decodePayload, encodePayload } from '../wire/values/payload.js'
import { described, EncodeError } from '../wire/values/value-errors.js'
import { badRequest, errorOf } from './errors.js'
import { type CallOptions, isObject } from './options.js'
import type { FunctionCall } from './transport/transport.js'
import type { Bound, Kwargs } from './typed.js'

/** From a user's call to an encoded request, and from an encoded outcome to the user's values. */

class BoundFunction<N extends string, A extends readonly unknown[]> implements Bound<N, A> {
  constructor(
    readonly name: N,
    readonly args: A,
    readonly kwargs: Kwargs | undefined,
  ) {}
}

/**
 * A function with arguments bound to it, as functools.partial. The bound `args` come before the arguments of the call.
 * The bound `kwargs` are merged with those of the call; for equal keys the call's value counts. A map sends the bound
 * values once per request, not once per item. A partial of a partial binds more arguments.
 */
export function partial<N extends string, const A extends readonly unknown[] = readonly []>(
  fn: N,
  args?: A,
  kwargs?: Kwargs,
): Bound<N, A>
export function partial<
  N extends string,
  B extends readonly unknown[],
  const A extends readonly unknown[] = readonly [],
>(fn: Bound<N, B>, args?: A, kwargs?: Kwargs): Bound<N, readonly [...B, ...A]>
export function partial(fn: string | Bound, args: readonly unknown[] = [], kwargs?: Kwargs): Bound {
  const bound = boundOf(fn)
  checkArgs(args)
  checkKwargs(kwargs)
  return new BoundFunction(bound.name, [...bound.args, ...args], mergeKwargs(bound.kwargs, kwargs))
}

/** @throws BadRequestError if it is neither a name nor a partial. */
function boundOf(fn: unknown): Bound {
  if (typeof fn === 'string') return new BoundFunction(fn, [], undefined)
  if (isBound(fn)) return fn
  const hint =
    typeof fn === 'function'
      ? `the function runs in another process, where it has a name: ${JSON.stringify(fn.name || 'its name')}`
      : 'it must be the name of a function, or a partial'
  throw badRequest(`the function is ${described(fn)}; ${hint}`)
}

/** Not by its class: a program may have two copies of farpool. */
const isBound = (fn: unknown): fn is Bound =>
  typeof fn === 'object' &&
  fn !== null &&
  'name' in fn &&
  typeof fn.name === 'string' &&
  'args' in fn &&
  Array.isArray(fn.args) &&
  'kwargs' in fn &&
  (fn.kwargs === undefined || isObject(fn.kwargs))

function checkArgs(args: unknown): asserts args is readonly unknown[] {
  if (!Array.isArray(args)) throw badRequest(`args is ${described(args)}; it must be an array of arguments`)
}

function checkKwargs(kwargs: unknown): void {
  if (kwargs === undefined || isObject(kwargs)) return
  throw badRequest(`kwargs is ${described(kwargs)}; it must be an object of keyword arguments`)
}

/** For equal keys the second value counts. */
function mergeKwargs(first: Kwargs | undefined, second: Kwargs | undefined): Kwargs | undefined {
  return first && second ? { ...first, ...second } : (second ?? first)
}

/**
 * The fields of every request that calls a function, encoded. The pool is set later. `checkOptions` has checked the options.
 * @throws BadRequestError if the function or an argument is invalid, EncodingError if a value cannot be encoded.
 */
export function functionCall(
  fn: string | Bound,
  options: CallOptions,
  encoding: Encoding,
  args: unknown = [],
  kwargs?: Kwargs,
): FunctionCall {
  const { retries, timeout, queueTimeout, runTimeout } = options
  const bound = boundOf(fn)
  checkArgs(args)
  checkKwargs(kwargs)
  return {
    pool: '',
    function: bound.name,
    args: encodeArgs([...bound.args, ...args], encoding),
    kwargs: encodeKwargs(mergeKwargs(bound.kwargs, kwargs), encoding),
    replyKind: REPLY_KIND[encoding],
    retries: retries ?? 0,
    deadline: deadlineAfter(timeout),
    timeoutMs: timeout,
    queueTimeoutMs: wholeMs(queueTimeout),
    runTimeoutMs: wholeMs(runTimeout),
  }
}

/** @throws BadRequestError if the input of a map is not iterable; that of an imap may also be an async iterable. */
export function checkInput(input: unknown, mode: 'sync' | 'sync or async'): void {
  const object = Object(input)
  if (typeof object[Symbol.iterator] === 'function') return
  if (mode === 'sync or async' && typeof object[Symbol.asyncIterator] === 'function') return
  const what = mode === 'sync' ? 'an array or another iterable' : 'an iterable or an async iterable'
  throw badRequest(`the input is ${described(input)}; it must be ${what} of items`)
}

/** The Unix time, in milliseconds, of the deadline of a call that starts now; undefined for no limit. */
export const deadlineAfter = (timeout: number | undefined): number | undefined =>
  timeout === undefined || timeout > MAX_TIMER_MS ? undefined : Date.now() + timeout

/** A timeout as it is sent: 0 means no limit, so less than 1 ms becomes 1. */
const wholeMs = (timeout: number | undefined): number =>
  timeout === undefined || timeout > MAX_TIMER_MS ? 0 : Math.max(1, Math.ceil(timeout))

export type Encoding = 'cbor' | 'json'

const REPLY_KIND: Readonly<Record<Encoding, PayloadKind>> = {
  cbor: PayloadKind.PAYLOAD_KIND_CBOR,
  json: PayloadKind.PAYLOAD_KIND_JSON,
}

/** Encodes a value. @throws EncodingError that names the part of the value that cannot be encoded. */
export function encode(value: unknown, encoding: Encoding, what: string): Uint8Array {
  try {
    return encodePayload(value, encoding)
  } catch (error) {
    if (!(error instanceof EncodeError)) throw error
    throw errorOf(
      new Failure('ARGUMENT_ENCODE_FAILED', `${what} cannot be sent: ${error.message}`, { cause: error.cause }),
    )
  }
}

/** @param of the list that the arguments are of, if it is not that of the call itself. */
export const encodeArgs = (args: readonly unknown[], encoding: Encoding, of = ''): Uint8Array[] =>
  args.map((arg, at) => encode(arg, encoding, `argument ${at + 1}${of}`))

const encodeKwargs = (kwargs: Kwargs | undefined, encoding: Encoding): Uint8Array | undefined =>
  kwargs && Object.keys(kwargs).length > 0 ? encode(kwargs, encoding, 'kwargs') : undefined

/** Decodes a result. @throws EncodingError */
export function decode(payload: Uint8Array): unknown {
  try {
    return decodePayload(payload).value
  } catch (error) {
    const { message } = asFailure(error)
    throw errorOf(new Failure('PAYLOAD_DECODE_FAILED', `the result cannot be decoded: ${message}`, { started: true }))
  }
}
