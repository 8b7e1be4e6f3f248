import { PayloadKind } from '../proto/gen/farpool/v1/payload.js'
import { asFailure, Failure } from '../wire/failure.js'
import { MAX_TIMER_MS } from '../wire/protocol.js'
import { decodePayload, encodePayload } from '../wire/values/payload.js'
import { EncodeError } from '../wire/values/value-errors.js'
import { errorOf } from './errors.js'
import { badRequest, type CallOptions, checkCount, checkTimeout, deadlineOf } from './options.js'
import type { ChunkOutcome, FunctionCall } from './transport/transport.js'
import type { Bound, Kwargs } from './typed.js'

class BoundFunction<N extends string, A extends readonly unknown[]> implements Bound<N, A> {
  constructor(
    readonly name: N,
    readonly args: A,
    readonly kwargs: Kwargs | undefined,
  ) {}
}

/**
 * A function with arguments bound to it, as functools.partial: `args` stand before the call's own, `kwargs` are merged
 * under the call's own. In a map the bound values travel once per request, not once per item. A partial of a partial
 * binds further.
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

/** A name as a Bound with nothing bound. */
export const boundOf = (fn: string | Bound): Bound =>
  typeof fn === 'string' ? new BoundFunction(fn, [], undefined) : fn

/** Later keys win; undefined where neither has any. */
export function mergeKwargs(first: Kwargs | undefined, second: Kwargs | undefined): Kwargs | undefined {
  return first && second ? { ...first, ...second } : (second ?? first)
}

export type Encoding = 'cbor' | 'json'

export const REPLY_KIND: Readonly<Record<Encoding, PayloadKind>> = {
  cbor: PayloadKind.PAYLOAD_KIND_CBOR,
  json: PayloadKind.PAYLOAD_KIND_JSON,
}

/** Encodes a value. @throws EncodingError that says which part of it cannot be sent. */
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

export const encodeKwargs = (kwargs: Kwargs | undefined, encoding: Encoding): Uint8Array | undefined =>
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

/** What became of the items of a chunk. */
export interface ChunkResult {
  /** One for each item, in order; where an item failed, anything. */
  readonly values: readonly unknown[]
  /** By item; undefined where none failed. */
  readonly errors: ReadonlyMap<number, unknown> | undefined
}

/** `first` is the index of the chunk's first item in the whole input. */
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

/** A chunk all of whose items have failed. */
export const failedChunk = (items: number, error: unknown): ChunkResult => ({
  values: new Array(items),
  errors: new Map(Array.from({ length: items }, (_, item) => [item, error])),
})

/** The payload holds only what succeeded: each to its own place. */
function spread(values: readonly unknown[], items: number, errors: ReadonlyMap<number, unknown>): unknown[] {
  let taken = 0
  return Array.from({ length: items }, (_, item) => (errors.has(item) ? undefined : values[taken++]))
}

/**
 * What every request that runs a function has, checked and encoded. The bound arguments of a partial stand before the
 * call's own. @throws BadRequestError, EncodingError
 */
export function functionCall(
  fn: string | Bound,
  options: CallOptions,
  encoding: Encoding,
  args: unknown = [],
  kwargs?: Kwargs,
): FunctionCall {
  checkCount('retries', options.retries, 0)
  checkTimeout(options.timeout)
  checkTimeout(options.queueTimeout, 'queueTimeout')
  checkTimeout(options.runTimeout, 'runTimeout')
  const bound = boundOf(fn)
  if (typeof bound?.name !== 'string') throw badRequest(`the function is ${String(fn)}; it must be a name or a partial`)
  if (!Array.isArray(args)) throw badRequest(`args is a ${typeof args}; it must be an array of arguments`)
  return {
    pool: '',
    function: bound.name,
    args: encodeArgs([...bound.args, ...args], encoding),
    kwargs: encodeKwargs(mergeKwargs(bound.kwargs, kwargs), encoding),
    replyKind: REPLY_KIND[encoding],
    retries: options.retries ?? 0,
    deadline: deadlineOf(options.timeout),
    queueTimeoutMs: wholeMs(options.queueTimeout),
    runTimeoutMs: wholeMs(options.runTimeout),
  }
}

/** 0 is for any time on the wire; what a timer cannot hold is any time too. */
const wholeMs = (timeout: number | undefined): number =>
  timeout === undefined || timeout > MAX_TIMER_MS ? 0 : Math.max(1, Math.ceil(timeout))

/** @throws BadRequestError where the input of a map is not iterable; that of an imap may be asynchronous. */
export function checkInput(input: unknown, also?: 'async'): void {
  const object = Object(input)
  if (typeof object[Symbol.iterator] === 'function') return
  if (also === 'async' && typeof object[Symbol.asyncIterator] === 'function') return
  throw badRequest(`the input is ${input === null ? 'null' : `a ${typeof input}`}; it must be iterable`)
}
