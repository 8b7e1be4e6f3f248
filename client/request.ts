import { PayloadKind } from '../proto/gen/farpool/v1/payload.js'
import { asFailure, Failure } from '../wire/failure.js'
import { MAX_TIMER_MS } from '../wire/protocol.js'
import { decodePayload, encodePayload } from '../wire/values/payload.js'
import { EncodeError } from '../wire/values/value-errors.js'
import { badRequest, errorOf } from './errors.js'
import { type CallOptions, checkCount } from './options.js'
import type { ChunkOutcome, FunctionCall } from './transport/transport.js'
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
  return new BoundFunction(bound.name, [...bound.args, ...args], mergeKwargs(bound.kwargs, kwargs))
}

const boundOf = (fn: string | Bound): Bound => (typeof fn === 'string' ? new BoundFunction(fn, [], undefined) : fn)

/** For equal keys the second value counts. */
function mergeKwargs(first: Kwargs | undefined, second: Kwargs | undefined): Kwargs | undefined {
  return first && second ? { ...first, ...second } : (second ?? first)
}

/**
 * The fields of every request that calls a function, checked and encoded. The pool is set later.
 * @throws BadRequestError if an option or an argument is invalid, EncodingError if a value cannot be encoded.
 */
export function functionCall(
  fn: string | Bound,
  options: CallOptions,
  encoding: Encoding,
  args: unknown = [],
  kwargs?: Kwargs,
): FunctionCall {
  const { retries, timeout, queueTimeout, runTimeout } = options
  if (retries !== undefined) checkCount('retries', retries, 0)
  checkTimeout(timeout)
  checkTimeout(queueTimeout, 'queueTimeout')
  checkTimeout(runTimeout, 'runTimeout')
  const bound = boundOf(fn)
  if (typeof bound?.name !== 'string') throw badRequest(`the function is ${String(fn)}; it must be a name or a partial`)
  if (!Array.isArray(args)) throw badRequest(`args is a ${typeof args}; it must be an array of arguments`)
  return {
    pool: '',
    function: bound.name,
    args: encodeArgs([...bound.args, ...args], encoding),
    kwargs: encodeKwargs(mergeKwargs(bound.kwargs, kwargs), encoding),
    replyKind: REPLY_KIND[encoding],
    retries: retries ?? 0,
    deadline: deadlineAfter(timeout),
    queueTimeoutMs: wholeMs(queueTimeout),
    runTimeoutMs: wholeMs(runTimeout),
  }
}

/** @throws BadRequestError if the time is given and is not a number of milliseconds, 0 or more. */
export function checkTimeout(value: number | undefined, name = 'timeout'): void {
  if (value === undefined || (typeof value === 'number' && value >= 0)) return
  throw badRequest(`${name} is ${String(value)}; it must be a number of milliseconds, 0 or more`)
}

/** @throws BadRequestError if the input of a map is not iterable; that of an imap may also be an async iterable. */
export function checkInput(input: unknown, mode: 'sync' | 'sync or async'): void {
  const object = Object(input)
  if (typeof object[Symbol.iterator] === 'function') return
  if (mode === 'sync or async' && typeof object[Symbol.asyncIterator] === 'function') return
  throw badRequest(`the input is ${input === null ? 'null' : `a ${typeof input}`}; it must be iterable`)
}

/** The Unix time, in milliseconds, of the deadline of a call that starts now; undefined for no limit. */
const deadlineAfter = (timeout: number | undefined): number | undefined =>
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

export const encodeArgs = (args: readonly unknown[], encoding: Encoding): Uint8Array[] =>
  args.map((arg, at) => encode(arg, encoding, `argument ${at + 1}`))

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

/** The outcome of a chunk, decoded. */
export interface ChunkResult {
  /** One value for each item, in order; undefined if the item failed. */
  readonly values: readonly unknown[]
  /** The errors of the items that failed, by the item's place in the chunk; undefined if none failed. */
  readonly errors: ReadonlyMap<number, unknown> | undefined
}

/** @param first the index of the chunk's first item in the whole input. */
export function decodeChunk({ payload, failures }: ChunkOutcome, items: number, first: number): ChunkResult {
  const errors = new Map<number, unknown>()
  for (const { item, failure } of failures) {
    if (item !== undefined) errors.set(item, errorOf(failure, first + item))
    else for (let at = 0; at < items; at++) errors.set(at, errorOf(failure, first + at))
  }
  let values: unknown
  try {
    values = payload && payload.length > 0 ? decode(payload) : []
    if (!Array.isArray(values) || values.length !== items - errors.size) {
      throw errorOf(new Failure('INTERNAL', `a chunk of ${items} items came back with another number of results`))
    }
  } catch (error) {
    return failedChunk(items, error)
  }
  return errors.size === 0 ? { values, errors: undefined } : { values: spread(values, items, errors), errors }
}

/** A chunk of which every item has failed with this error. */
export const failedChunk = (items: number, error: unknown): ChunkResult => ({
  values: new Array(items),
  errors: new Map(Array.from({ length: items }, (_, item) => [item, error])),
})

/** The payload holds only the results of the items that succeeded: puts each at the place of its item. */
function spread(values: readonly unknown[], items: number, errors: ReadonlyMap<number, unknown>): unknown[] {
  let taken = 0
  return Array.from({ length: items }, (_, item) => (errors.has(item) ? undefined : values[taken++]))
}
