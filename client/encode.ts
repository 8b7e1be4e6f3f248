import { PayloadKind } from '../proto/gen/farpool/v1/payload.js'
import { EncodeError } from '../wire/codec-errors.js'
import { asFailure, Failure } from '../wire/failure.js'
import { decodePayload, encodePayload } from '../wire/payload.js'
import { errorOf } from './errors.js'
import type { ChunkOutcome } from './transport.js'
import type { Kwargs } from './typed.js'

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
