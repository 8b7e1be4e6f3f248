import { MAX_BIGNUM_BYTES } from './cbor-tags.js'
import type { Kind } from './payload.js'
import { MAX_DEPTH } from './value-errors.js'

/** A word of JSON with its comma, for example `false,`. */
const WORD_BYTES = 6

/** The tag and the head of a CBOR item, or the brackets of JSON with a comma. */
const HEAD_BYTES = 12

/** A date as JSON: `"+275760-09-13T00:00:00.000Z",`. */
const DATE_BYTES = 30

/** A text that may take this part of the limit is looked at: counting its bytes takes a quarter of the time of encoding it. */
const LARGE_PART = 1 / 16

const hasOwn = Object.prototype.hasOwnProperty

/** The most bytes of a number: a head and 64 bits as CBOR, `-1.2345678901234567e-308,` as JSON. */
const CBOR_NUMBER_BYTES = 9
const JSON_NUMBER_BYTES = 25

/**
 * At most how many bytes a value takes in a list of values, found without encoding it. Cheap where values are small: it is
 * asked for each result of a chunk.
 * @param limit above it the exact number does not matter, and the walk ends.
 */
export function sizeBound(value: unknown, kind: Kind, limit: number): number {
  const isJson = kind === 'json'
  if (typeof value !== 'object' || value === null) return boundOf(value, isJson, limit, 0)
  try {
    return boundOf(value, isJson, limit, 0)
  } catch {
    // It is a cycle or too deep, or a getter throws: it cannot be encoded, so nothing of it is sent.
    return WORD_BYTES
  }
}

function boundOf(value: unknown, isJson: boolean, limit: number, depth: number): number {
  switch (typeof value) {
    case 'number':
      return isJson ? JSON_NUMBER_BYTES : CBOR_NUMBER_BYTES
    case 'string':
      return boundOfText(value, isJson, limit)
    case 'bigint':
      return HEAD_BYTES + (BigInt.asUintN(64, value) === value ? 0 : MAX_BIGNUM_BYTES)
    case 'object':
      return value === null ? WORD_BYTES : HEAD_BYTES + boundOfObject(value, isJson, limit, depth)
    default:
      return WORD_BYTES
  }
}

/** JSON escapes a control character with six characters. UTF-8 has at most three bytes for a unit of UTF-16. */
function boundOfText(text: string, isJson: boolean, limit: number): number {
  const most = HEAD_BYTES + (isJson ? 6 : 3) * text.length
  return isJson || most < limit * LARGE_PART ? most : HEAD_BYTES + Buffer.byteLength(text)
}

/** @throws RangeError for what is nested too deep, such as a cycle. */
function boundOfObject(value: object, isJson: boolean, limit: number, depth: number): number {
  if (depth === MAX_DEPTH) throw new RangeError('too deep')
  const below = depth + 1
  let bytes = 0
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length && bytes <= limit; i++) bytes += boundOf(value[i], isJson, limit, below)
    return bytes
  }
  const prototype: unknown = Object.getPrototypeOf(value)
  if (prototype !== Object.prototype || (isJson && 'toJSON' in value)) {
    if (value instanceof Date) return DATE_BYTES
    if (isJson && 'toJSON' in value) return Buffer.byteLength(JSON.stringify(value) ?? '')
    if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer || value instanceof SharedArrayBuffer)
      return value.byteLength
    if (value instanceof Set) {
      for (const item of value) if (bytes <= limit) bytes += boundOf(item, isJson, limit, below)
      return bytes
    }
    if (value instanceof Map) {
      for (const [key, item] of value)
        if (bytes <= limit) bytes += boundOf(key, isJson, limit, below) + boundOf(item, isJson, limit, below)
      return bytes
    }
  }
  for (const name in value) {
    if (bytes > limit || !hasOwn.call(value, name)) continue
    const part: unknown = (value as Record<string, unknown>)[name]
    bytes += boundOfText(name, isJson, limit) + boundOf(part, isJson, limit, below)
  }
  return bytes
}
