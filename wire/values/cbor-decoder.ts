import { isAscii } from 'node:buffer'
import { MAX_BIGNUM_BYTES, Major, Tag, TYPED_ARRAY_OF_TAG } from './cbor-tags.js'
import { DecodeError, MAX_DEPTH } from './value-errors.js'

/** What Reader.count gives for an item whose end is a break. */
export const INDEFINITE = -1

/** A place in CBOR bytes, and the small things that can be read there. All throw DecodeError with the offset. */
export class Reader {
  readonly bytes: Buffer
  readonly #view: DataView
  at = 0
  #announced = 0

  constructor(bytes: Uint8Array) {
    this.bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  /** How many bytes have not been read. */
  get left(): number {
    return this.bytes.length - this.at
  }

  byte(): number {
    const byte = this.bytes[this.at]
    if (byte === undefined) return this.fail('the value ends early')
    this.at++
    return byte
  }

  /** Where the next `length` bytes begin. */
  advance(length: number): number {
    this.available(length)
    const start = this.at
    this.at += length
    return start
  }

  /** The number that stands here, a BigInt where a number would not be exact; undefined, and no step, for other items. */
  number(): number | bigint | undefined {
    const head = this.bytes[this.at] ?? this.fail('the value ends early')
    if (head < 0x40) {
      this.at++
      const info = head & 31
      if (info === 27) return this.#integer64(head >= 0x20)
      const n = this.length(info)
      return head < 0x20 ? n : -1 - n
    }
    if (head < 0xf9 || head > 0xfb) return undefined
    this.at++
    if (head === 0xfb) return this.#view.getFloat64(this.advance(8))
    return head === 0xfa ? this.#view.getFloat32(this.advance(4)) : this.#float16()
  }

  /**
   * Puts the numbers that stand here into `items` from index `i` on, until there are `count` or another item comes;
   * gives the index behind the last one. The hot path of large arrays.
   */
  numbers(items: unknown[], i: number, count: number): number {
    const { bytes } = this
    const end = bytes.length
    let { at } = this
    for (; i !== count; i++) {
      const head = bytes[at] ?? 0xff
      if (head < 0x18) {
        items[i] = head
        at++
      } else if (head === 0x18 && at + 2 <= end) {
        items[i] = bytes[at + 1]
        at += 2
      } else if (head === 0x19 && at + 3 <= end) {
        items[i] = this.#view.getUint16(at + 1)
        at += 3
      } else if (head === 0x1a && at + 5 <= end) {
        items[i] = this.#view.getUint32(at + 1)
        at += 5
      } else if (head === 0xfb && at + 9 <= end) {
        items[i] = this.#view.getFloat64(at + 1)
        at += 9
      } else break
    }
    this.at = at
    return i
  }

  #integer64(negative: boolean): number | bigint {
    const n = this.#view.getBigUint64(this.advance(8))
    const value = negative ? -1n - n : n
    return value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER ? Number(value) : value
  }

  /** IEEE 754 half precision (RFC 8949, appendix D). */
  #float16(): number {
    const bits = this.#view.getUint16(this.advance(2))
    const exponent = (bits >> 10) & 31
    const fraction = bits & 1023
    let magnitude = fraction === 0 ? Number.POSITIVE_INFINITY : Number.NaN
    if (exponent === 0) magnitude = fraction * 2 ** -24
    else if (exponent < 31) magnitude = (fraction + 1024) * 2 ** (exponent - 25)
    return bits & 0x8000 ? -magnitude : magnitude
  }

  /** The number behind a head, which has to be one that a double holds: a length, a tag, a small integer. */
  length(info: number): number {
    if (info < 24) return info
    switch (info) {
      case 24:
        return this.byte()
      case 25:
        return this.#view.getUint16(this.advance(2))
      case 26:
        return this.#view.getUint32(this.advance(4))
      case 27: {
        const n = this.#view.getBigUint64(this.advance(8))
        return n <= Number.MAX_SAFE_INTEGER ? Number(n) : this.fail(`the number ${n} is out of range`)
      }
      default:
        return this.fail(`additional information ${info} has no meaning here`)
    }
  }

  /**
   * How many items follow; INDEFINITE until a break. What all containers together announce is never more than the
   * message has bytes, because every item takes one: memory may be set aside for it.
   */
  count(info: number, bytesEach: number): number {
    if (info === 31) return INDEFINITE
    const count = this.length(info)
    this.available(count * bytesEach)
    this.#announced += count * bytesEach
    if (this.#announced > this.bytes.length) this.fail('the value ends early: more items are announced than bytes')
    return count
  }

  /** Throws where fewer bytes are left. */
  available(length: number): void {
    if (length > this.left) this.fail(`the value ends early: ${length} bytes are announced and ${this.left} are left`)
  }

  /** Whether an item of indefinite length ends here; if so, steps over its break. */
  isBreak(): boolean {
    if (this.left === 0) this.fail('the value ends early: a break is missing')
    if (this.bytes[this.at] !== 0xff) return false
    this.at++
    return true
  }

  /** Whether item number `i` of `count` follows; steps over the break that ends an item of indefinite length. */
  more(i: number, count: number): boolean {
    return count === INDEFINITE ? !this.isBreak() : i < count
  }

  /** The depth of what is in a container at this depth. */
  deeper(depth: number): number {
    if (depth >= MAX_DEPTH) this.fail(`the value is nested deeper than ${MAX_DEPTH} levels`)
    return depth + 1
  }

  fail(why: string, at = this.at): never {
    throw new DecodeError(`malformed CBOR at byte ${at}: ${why}`)
  }
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Keys that were read lately, by a hash of their bytes: objects of a kind have the same ones. */
const keys: string[] = new Array(512).fill('')

/** Up to here, making a text by hand is faster than calling into C++. */
const SHORT_BYTES = 16

/** Room for the characters of a short text, by its length; filled and read within one call. */
const units: readonly number[][] = Array.from({ length: SHORT_BYTES + 1 }, (_, length) => new Array(length).fill(0))

/** What follows the head of a byte string: a view on the message, except where it came in pieces. */
export function readBytes(reader: Reader, info: number): Uint8Array {
  if (info === 31) return joinPieces(reader)
  const length = reader.length(info)
  const start = reader.advance(length)
  return new Uint8Array(reader.bytes.buffer, reader.bytes.byteOffset + start, length)
}

/** What follows the head of a text. */
export function readString(reader: Reader, info: number): string {
  let text = ''
  if (info === 31) {
    while (!reader.isBreak()) text += readText(reader, pieceLength(reader, Major.TEXT))
    return text
  }
  return readText(reader, reader.length(info))
}

/** As readString, for the key of an object. */
export function readKey(reader: Reader, info: number): string {
  if (info > SHORT_BYTES) return readString(reader, info)
  const start = reader.advance(info)
  const { bytes } = reader
  let hash = info
  for (let i = start; i < reader.at; i++) hash = (hash * 31 + (bytes[i] ?? 0)) & 511
  const seen = keys[hash] ?? ''
  if (isSame(seen, bytes, start, reader.at)) return seen
  const key = shortAscii(bytes, start, reader.at)
  if (key === undefined) return longText(reader, start)
  keys[hash] = key
  return key
}

function readText(reader: Reader, length: number): string {
  const start = reader.advance(length)
  return shortAscii(reader.bytes, start, reader.at) ?? longText(reader, start)
}

/** The text from `start` to where the reader is. */
function longText(reader: Reader, start: number): string {
  const part = reader.bytes.subarray(start, reader.at)
  if (isAscii(part)) return part.toString('latin1')
  try {
    return utf8.decode(part)
  } catch {
    return reader.fail('a text is not valid UTF-8', start)
  }
}

/** Undefined where it is not ASCII. One call for the whole text: pieces put together take half as long again. */
function shortAscii(bytes: Uint8Array, start: number, end: number): string | undefined {
  const chars = units[end - start]
  if (chars === undefined) return undefined
  let or = 0
  for (let i = start; i < end; i++) {
    const unit = bytes[i] ?? 0
    or |= unit
    chars[i - start] = unit
  }
  return or > 0x7f ? undefined : String.fromCharCode(...chars)
}

function isSame(text: string, bytes: Uint8Array, start: number, end: number): boolean {
  if (text.length !== end - start) return false
  for (let i = start; i < end; i++) if (text.charCodeAt(i - start) !== bytes[i]) return false
  return true
}

/** Two passes, so that a million empty pieces take no memory. */
function joinPieces(reader: Reader): Uint8Array {
  const start = reader.at
  let total = 0
  while (!reader.isBreak()) total += skipPiece(reader)
  const joined = new Uint8Array(total)
  const end = reader.at
  reader.at = start
  let filled = 0
  while (!reader.isBreak()) {
    const length = skipPiece(reader)
    joined.set(reader.bytes.subarray(reader.at - length, reader.at), filled)
    filled += length
  }
  reader.at = end
  return joined
}

function skipPiece(reader: Reader): number {
  const length = pieceLength(reader, Major.BYTES)
  reader.advance(length)
  return length
}

/** The length of the next piece of a string of indefinite length; a piece has a definite one. */
function pieceLength(reader: Reader, major: number): number {
  const head = reader.byte()
  if (head >> 5 !== major || (head & 31) === 31) reader.fail('a piece of a string is not a string of the same kind')
  return reader.length(head & 31)
}

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

/**
 * Decodes one CBOR value (RFC 8949). Byte strings and aligned typed arrays are views on `bytes`.
 * @throws DecodeError with the offset, for whatever is not exactly one value that docs/values.md names.
 */
export function decodeCbor(bytes: Uint8Array): unknown {
  const reader = new Reader(bytes)
  const value = readValue(reader, 0)
  if (reader.left > 0) reader.fail(`${reader.left} bytes follow the value`)
  return value
}

function readValue(reader: Reader, depth: number): unknown {
  const number = reader.number()
  if (number !== undefined) return number
  const head = reader.byte()
  const info = head & 31
  switch (head >> 5) {
    case Major.BYTES:
      return readBytes(reader, info)
    case Major.TEXT:
      return readString(reader, info)
    case Major.ARRAY:
      return readArray(reader, reader.count(info, 1), reader.deeper(depth))
    case Major.MAP:
      return readObject(reader, reader.count(info, 2), reader.deeper(depth))
    case Major.TAG:
      return readTagged(reader, reader.length(info), depth)
    default:
      return readSimple(reader, info)
  }
}

function readSimple(reader: Reader, info: number): unknown {
  switch (info) {
    case 20:
      return false
    case 21:
      return true
    case 22:
      return null
    case 23:
      return undefined
    case 31:
      return reader.fail('a break stands outside of an item of indefinite length')
    default:
      return reader.fail(`simple value ${info} has no meaning here`)
  }
}

/** A larger array starts empty: V8 makes a hash table of one that is made at such a length. */
const MOST_SET_ASIDE = 2 ** 24

function readArray(reader: Reader, count: number, depth: number): unknown[] {
  // Growing item by item takes a million numbers four times as long.
  const items: unknown[] = count > 0 && count <= MOST_SET_ASIDE ? new Array(count) : []
  for (let i = 0; reader.more(i, count); ) {
    const next = reader.numbers(items, i, count)
    if (next === i) items[i++] = readValue(reader, depth)
    else i = next
  }
  return items
}

/** An object; a Map where a key is not a text. */
function readObject(reader: Reader, count: number, depth: number): unknown {
  const object: Record<string, unknown> = {}
  for (let i = 0; reader.more(i, count); i++) {
    const head = reader.byte()
    if (head >> 5 !== Major.TEXT) {
      // What was read is taken over: to read it again would double the time with every level of nesting.
      reader.at--
      return readEntries(reader, new Map(Object.entries(object)), i, count, depth)
    }
    const key = readKey(reader, head & 31)
    const value = readValue(reader, depth)
    if (key === '__proto__') {
      // An own property, like any other; an assignment would set the prototype.
      Object.defineProperty(object, key, { value, writable: true, enumerable: true, configurable: true })
    } else object[key] = value
  }
  return object
}

/** Reads the entries from the one numbered `from`. */
function readEntries(reader: Reader, map: Map<unknown, unknown>, from: number, count: number, depth: number) {
  for (let i = from; reader.more(i, count); i++) {
    const key = readValue(reader, depth)
    map.set(key, readValue(reader, depth))
  }
  return map
}

/** A tag is no level of nesting of its own, or what the encoder accepts would be too deep here. */
function readTagged(reader: Reader, tag: number, depth: number): unknown {
  const { at } = reader
  switch (tag) {
    case Tag.SELF_DESCRIBED:
      // The exception: it can stand before itself, without end.
      return readValue(reader, reader.deeper(depth))
    case Tag.DATE_STRING:
      return readDateText(reader)
    case Tag.EPOCH_SECONDS:
      return readEpochSeconds(reader)
    case Tag.POSITIVE_BIGNUM:
      return readBignum(reader)
    case Tag.NEGATIVE_BIGNUM:
      return -1n - readBignum(reader)
    case Tag.SET: {
      const head = reader.byte()
      if (head >> 5 !== Major.ARRAY) reader.fail('a set is not an array', at)
      return new Set(readArray(reader, reader.count(head & 31, 1), reader.deeper(depth)))
    }
    case Tag.MAP: {
      const head = reader.byte()
      if (head >> 5 !== Major.MAP) reader.fail('tag 259 does not stand before a map', at)
      return readEntries(reader, new Map(), 0, reader.count(head & 31, 2), reader.deeper(depth))
    }
    default:
      return readTypedArray(reader, tag)
  }
}
