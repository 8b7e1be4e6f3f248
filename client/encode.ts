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

/** What became of one item. */
export type ItemResult =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly error: unknown }

/**
 * One result for each item of a chunk, in order. The payload holds those that succeeded; the failures tell which did
 * not. `first` is the index of the chunk's first item in the whole input.
 */
export function decodeChunk(outcome: ChunkOutcome, items: number, first: number): ItemResult[] {
  const failed = new Map<number, Failure>()
  for (const { item, failure } of outcome.failures) {
    if (item !== undefined) failed.set(item, failure)
    else for (let at = 0; at < items; at++) failed.set(at, failure)
  }
  let values: unknown[] = []
  try {
    const decoded = outcome.payload && outcome.payload.length > 0 ? decode(outcome.payload) : []
    if (!Array.isArray(decoded) || decoded.length !== items - failed.size) {
      throw errorOf(new Failure('INTERNAL', `a chunk of ${items} items came back with another number of results`))
    }
    values = decoded
  } catch (error) {
    return Array.from({ length: items }, () => ({ ok: false, error }))
  }
  let taken = 0
  return Array.from({ length: items }, (_, item): ItemResult => {
    const failure = failed.get(item)
    return failure ? { ok: false, error: errorOf(failure, first + item) } : { ok: true, value: values[taken++] }
  })
}
