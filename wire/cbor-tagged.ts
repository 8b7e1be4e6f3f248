import type { Reader } from './cbor-reader.js'
import { MAX_BIGNUM_BYTES, Major, TYPED_ARRAY_OF_TAG } from './cbor-tags.js'
import { readBytes, readString } from './cbor-text.js'

/** What tagged items hold that are values of their own: no other values are inside, so that none of these recurses. */

/** RFC 3339 and no more: what else Date can read may depend on the time zone of the machine. */
const RFC_3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/i

/** Tag 0. */
export function readDateText(reader: Reader): Date {
  const { at } = reader
  const text = readString(reader, infoOf(reader, Major.TEXT, 'a date of tag 0 is not a text'))
  const date = new Date(RFC_3339.test(text) ? text.toUpperCase() : Number.NaN)
  return Number.isNaN(date.getTime()) ? reader.fail('a date is not one of RFC 3339', at) : date
}

/** Tag 1. NaN is the invalid Date. */
export function readEpochSeconds(reader: Reader): Date {
  const { at } = reader
  const seconds = reader.number() ?? reader.fail('a date of tag 1 is not a number', at)
  // Apart, because both parts are exact: seconds * 1000 is rounded, which late in the range gives the next millisecond.
  const whole = Math.floor(Number(seconds))
  const date = new Date(whole * 1000 + Math.round((Number(seconds) - whole) * 1000))
  if (Number.isNaN(date.getTime()) && !Number.isNaN(Number(seconds))) reader.fail('a date is out of range', at)
  return date
}

/** Tags 2 and 3, without the sign. */
export function readBignum(reader: Reader): bigint {
  const { at } = reader
  const bytes = readBytes(reader, infoOf(reader, Major.BYTES, 'a bignum is not a byte string'))
  if (bytes.length > MAX_BIGNUM_BYTES) {
    reader.fail(`a bignum takes ${bytes.length} bytes; at most ${MAX_BIGNUM_BYTES}`, at)
  }
  return bytes.length === 0 ? 0n : BigInt(`0x${Buffer.from(bytes).toString('hex')}`)
}

/** The tags of RFC 8746: a view on the message where its place is aligned, else a copy. */
export function readTypedArray(reader: Reader, tag: number): ArrayBufferView {
  const { at } = reader
  const row = TYPED_ARRAY_OF_TAG.get(tag) ?? reader.fail(`tag ${tag} has no meaning here`, at)
  const why = `a typed array is not a byte string of a multiple of ${row.bytes}`
  const bytes = readBytes(reader, infoOf(reader, Major.BYTES, why))
  if (bytes.length % row.bytes !== 0) reader.fail(why, at)
  const aligned = bytes.byteOffset % row.bytes === 0 && !row.swapped ? bytes : Uint8Array.from(bytes)
  if (row.swapped) swap(aligned, row.bytes)
  return new row.make(aligned.buffer, aligned.byteOffset, aligned.length / row.bytes)
}

/** The rest of the next item's head, whose major type has to be this one. */
function infoOf(reader: Reader, major: number, otherwise: string): number {
  const { at } = reader
  const head = reader.byte()
  return head >> 5 === major ? head & 31 : reader.fail(otherwise, at)
}

/** From the other byte order to this machine's, in place. */
function swap(bytes: Uint8Array, width: 1 | 2 | 4 | 8): void {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  if (width === 2) buffer.swap16()
  else if (width === 4) buffer.swap32()
  else if (width === 8) buffer.swap64()
}
