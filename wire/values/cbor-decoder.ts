/**
 * Reads values from CBOR (RFC 8949) that any peer may have written. docs/reference/values.md lists what each item
 * becomes.
 *
 *     decodeCbor ─▶ readValue: one item and its parts, recursively ─▶ Reader: heads, lengths and numbers at a position
 *
 * D1  Bytes that are not exactly one supported value are a DecodeError with the offset, and no other error.
 * D2  No item is read twice. Otherwise the time would double with each level of nesting.
 * D3  Memory is set aside only for items that the message has bytes for, however much nested heads announce together.
 * D4  Everything that the encoder accepts is accepted: depth and bignums have the same limits in both.
 */

import { isAscii } from 'node:buffer'
import { MAX_BIGNUM_BYTES, Major, Tag, type TaggedArray, TYPED_ARRAY_OF_TAG } from './cbor-tags.js'
import { DecodeError, MAX_DEPTH } from './value-errors.js'

/**
 * Decodes one CBOR value. Byte strings and aligned typed arrays are views on `bytes`, not copies.
 * @throws DecodeError with the offset, for bytes that are not exactly one value listed in docs/reference/values.md.
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
      return readText(reader, info)
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
    case INDEFINITE_INFO:
      return reader.fail('a break is outside of an item of indefinite length')
    default:
      return reader.fail(`simple value ${info} is not supported`)
  }
}

/** A longer array starts empty, because V8 makes a hash table of an array that is created with such a length. */
const MAX_PREALLOCATED = 2 ** 24

function readArray(reader: Reader, count: number, depth: number): unknown[] {
  // Created at its full length: growing item by item takes a million numbers four times as long.
  const items: unknown[] = count > 0 && count <= MAX_PREALLOCATED ? new Array(count) : []
  // Where a search for a run of texts has failed, the next search waits for some items: texts may stand alone here.
  let searchAt = 0
  for (let i = 0; reader.more(i, count); ) {
    let next = reader.numbers(items, i, count)
    if (next === i && i >= searchAt && count - i >= MIN_RUN) {
      next = readTexts(reader, items, i, count)
      if (next === i) searchAt = i + MIN_RUN
    }
    if (next === i) items[i++] = readValue(reader, depth)
    else i = next
  }
  return items
}

/** An object, or a Map if a key is not a text. */
function readObject(reader: Reader, count: number, depth: number): unknown {
  const object: Record<string, unknown> = {}
  for (let i = 0; reader.more(i, count); i++) {
    const head = reader.byte()
    if (head >> 5 !== Major.TEXT) {
      reader.at--
      // The Map takes over the entries that have been read (D2).
      return readEntries(reader, new Map(Object.entries(object)), i, count, depth)
    }
    const key = readKey(reader, head & 31)
    const value = readValue(reader, depth)
    if (key === '__proto__') {
      // An own property like any other. An assignment would set the prototype.
      Object.defineProperty(object, key, { value, writable: true, enumerable: true, configurable: true })
    } else object[key] = value
  }
  return object
}

/** Adds the entries from number `from` on to a Map. */
function readEntries(reader: Reader, map: Map<unknown, unknown>, from: number, count: number, depth: number) {
  for (let i = from; reader.more(i, count); i++) {
    const key = readValue(reader, depth)
    map.set(key, readValue(reader, depth))
  }
  return map
}

/** A tag does not count as a level of nesting, because the encoder does not count it either (D4). */
function readTagged(reader: Reader, tag: number, depth: number): unknown {
  const { at } = reader
  switch (tag) {
    case Tag.SELF_DESCRIBED:
      // The only tag that counts: it can precede itself any number of times.
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
      const info = reader.infoOf(Major.ARRAY, 'tag 258 (a set) is not followed by an array')
      return new Set(readArray(reader, reader.count(info, 1), reader.deeper(depth)))
    }
    case Tag.MAP: {
      const info = reader.infoOf(Major.MAP, 'tag 259 (a Map) is not followed by a map')
      return readEntries(reader, new Map(), 0, reader.count(info, 2), reader.deeper(depth))
    }
    default:
      return readTypedArray(reader, TYPED_ARRAY_OF_TAG.get(tag) ?? reader.fail(`tag ${tag} is not supported`, at))
  }
}

/** RFC 3339 only. Date reads other formats too, some of them differently in each time zone. */
const RFC_3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/i

function readDateText(reader: Reader): Date {
  const { at } = reader
  const text = readText(reader, reader.infoOf(Major.TEXT, 'tag 0 (a date) is not followed by a text'))
  const date = new Date(RFC_3339.test(text) ? text.toUpperCase() : Number.NaN)
  return Number.isNaN(date.getTime()) ? reader.fail('a date is not in the format of RFC 3339', at) : date
}

/** NaN seconds are the invalid Date. */
function readEpochSeconds(reader: Reader): Date {
  const { at } = reader
  const seconds = Number(reader.number() ?? reader.fail('tag 1 (a date) is not followed by a number', at))
  // Whole seconds and the fraction apart: both are exact. `seconds * 1000` is rounded, for a late date to another millisecond.
  const whole = Math.floor(seconds)
  const date = new Date(whole * 1000 + Math.round((seconds - whole) * 1000))
  if (Number.isNaN(date.getTime()) && !Number.isNaN(seconds)) reader.fail('a date is out of range', at)
  return date
}

/** The magnitude of a bignum, without the sign that its tag gives. */
function readBignum(reader: Reader): bigint {
  const { at } = reader
  const bytes = readBytes(reader, reader.infoOf(Major.BYTES, 'a bignum is not a byte string'))
  if (bytes.length > MAX_BIGNUM_BYTES) {
    reader.fail(`a bignum has ${bytes.length} bytes; the limit is ${MAX_BIGNUM_BYTES}`, at)
  }
  return bytes.length === 0 ? 0n : BigInt(`0x${Buffer.from(bytes).toString('hex')}`)
}

/** A view on the message if its offset is aligned to the element size, otherwise a copy. */
function readTypedArray(reader: Reader, { bytes: width, make, swapped }: TaggedArray): ArrayBufferView {
  const { at } = reader
  const why = `a typed array is not a byte string whose length is a multiple of ${width}`
  const bytes = readBytes(reader, reader.infoOf(Major.BYTES, why))
  if (bytes.length % width !== 0) reader.fail(why, at)
  const aligned = bytes.byteOffset % width === 0 && !swapped ? bytes : Uint8Array.from(bytes)
  if (swapped) swap(aligned, width)
  return new make(aligned.buffer, aligned.byteOffset, aligned.length / width)
}

/** Reverses the bytes of each element, in place. */
function swap(bytes: Uint8Array, width: 1 | 2 | 4 | 8): void {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  if (width === 2) buffer.swap16()
  else if (width === 4) buffer.swap32()
  else if (width === 8) buffer.swap64()
}

/** The byte string after its head: a view on the message, or a copy if it is in chunks. */
function readBytes(reader: Reader, info: number): Uint8Array {
  if (info === INDEFINITE_INFO) return joinChunks(reader)
  const length = reader.length(info)
  const start = reader.advance(length)
  return new Uint8Array(reader.bytes.buffer, reader.bytes.byteOffset + start, length)
}

/** A byte string of indefinite length. Two passes, so that a million empty chunks take no memory. */
function joinChunks(reader: Reader): Uint8Array {
  const start = reader.at
  let total = 0
  while (!reader.isBreak()) total += skipChunk(reader)
  const joined = new Uint8Array(total)
  const end = reader.at
  reader.at = start
  let filled = 0
  while (!reader.isBreak()) {
    const length = skipChunk(reader)
    joined.set(reader.bytes.subarray(reader.at - length, reader.at), filled)
    filled += length
  }
  reader.at = end
  return joined
}

function skipChunk(reader: Reader): number {
  const length = reader.chunkLength(Major.BYTES)
  reader.advance(length)
  return length
}

/** The text after its head. */
function readText(reader: Reader, info: number): string {
  if (info !== INDEFINITE_INFO) return readCharacters(reader, reader.length(info))
  let text = ''
  while (!reader.isBreak()) text += readCharacters(reader, reader.chunkLength(Major.TEXT))
  return text
}

/** Up to this length, building a text in JavaScript is faster than a call into C++. */
const SHORT_BYTES = 16

/** Reading fewer texts as a run is not faster than one by one. */
const MIN_RUN = 8

/** A longer run gains nothing. This also bounds the memory that one text can keep alive, if V8 ever shares it (MAX_COPIED). */
const MAX_RUN_BYTES = 4096

/** V8 copies a slice of up to this length. A longer slice is a view: it would keep the text of the whole run alive. */
const MAX_COPIED = 12

/**
 * Reads a run of consecutive short texts into `items`, from index `i` up to `count`. Returns the index after the last one,
 * or `i` if there is no run. One call makes the text of the whole run, and each item is a slice of it: a text of ten
 * characters takes 30 ns instead of 80.
 */
function readTexts(reader: Reader, items: unknown[], i: number, count: number): number {
  const { bytes, at: start } = reader
  const limit = Math.min(bytes.length, start + MAX_RUN_BYTES)
  let end = start
  let after = i
  for (; after !== count; after++) {
    const length = shortLength(bytes[end])
    if (length === undefined || end + length >= limit) break
    end += 1 + length
  }
  if (after < i + MIN_RUN) return i
  const part = bytes.subarray(start, end)
  // The heads are in it: they are ASCII, too.
  const run = isAscii(part) ? part.toString('latin1') : undefined
  while (i < after) {
    const length = reader.byte() - EMPTY_TEXT
    const from = reader.at - start
    if (run !== undefined && length <= MAX_COPIED) {
      items[i++] = run.slice(from, from + length)
      reader.at += length
    } else items[i++] = readCharacters(reader, length)
  }
  return after
}

/** The head of a text of length 0. Up to length 23 the head is this number plus the length. */
const EMPTY_TEXT = Major.TEXT << 5

/** The length of the text with this head; undefined for another head. */
function shortLength(head: number | undefined): number | undefined {
  const length = (head ?? 0) - EMPTY_TEXT
  return length >= 0 && length < 24 ? length : undefined
}

/** Keys that were read recently, by a hash of their bytes: objects of one kind have the same keys. */
const recentKeys: string[] = new Array(512).fill('')

/** As readText, for the key of an object. */
function readKey(reader: Reader, info: number): string {
  if (info > SHORT_BYTES) return readText(reader, info)
  const start = reader.advance(info)
  const { bytes } = reader
  let hash = info
  for (let i = start; i < reader.at; i++) hash = (hash * 31 + (bytes[i] ?? 0)) & 511
  const recent = recentKeys[hash] ?? ''
  if (isSame(recent, bytes, start, reader.at)) return recent
  const key = shortAscii(bytes, start, reader.at)
  if (key === undefined) return longText(reader, start)
  recentKeys[hash] = key
  return key
}

function isSame(text: string, bytes: Uint8Array, start: number, end: number): boolean {
  if (text.length !== end - start) return false
  for (let i = start; i < end; i++) if (text.charCodeAt(i - start) !== bytes[i]) return false
  return true
}

function readCharacters(reader: Reader, length: number): string {
  const start = reader.advance(length)
  return shortAscii(reader.bytes, start, reader.at) ?? longText(reader, start)
}

/** For each length of a short text, an array for its characters. It is filled and read within one call. */
const shortTexts: readonly number[][] = Array.from({ length: SHORT_BYTES + 1 }, (_, length) =>
  new Array(length).fill(0),
)

/** A short text; undefined if it is long or not ASCII. One call makes the text: adding up characters takes 1.5 times as long. */
function shortAscii(bytes: Uint8Array, start: number, end: number): string | undefined {
  const chars = shortTexts[end - start]
  if (chars === undefined) return undefined
  let or = 0
  for (let i = start; i < end; i++) {
    const unit = bytes[i] ?? 0
    or |= unit
    chars[i - start] = unit
  }
  return or > 0x7f ? undefined : String.fromCharCode(...chars)
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Up to this length, calls into C++ take longer than their work. */
const MEDIUM_BYTES = 256

/** The text from `start` to the position of the reader. */
function longText(reader: Reader, start: number): string {
  if (reader.at - start <= MEDIUM_BYTES) {
    // One call instead of three. It replaces invalid bytes by U+FFFD: then the strict decoder below decides.
    const text = reader.bytes.toString('utf8', start, reader.at)
    if (!text.includes('\ufffd')) return text
  }
  const part = reader.bytes.subarray(start, reader.at)
  if (isAscii(part)) return part.toString('latin1')
  try {
    return utf8.decode(part)
  } catch {
    return reader.fail('a text is not valid UTF-8', start)
  }
}

/** The lower five bits of the head of an item of indefinite length, and of the break that ends it. */
const INDEFINITE_INFO = 31

/** The number of items in a container that ends with a break. */
const INDEFINITE = -1

/** A position in CBOR bytes, and the reading of heads, lengths and numbers there. */
class Reader {
  readonly bytes: Buffer
  readonly #view: DataView
  at = 0
  /** How many items and entries all containers so far have announced. */
  #announced = 0

  constructor(bytes: Uint8Array) {
    this.bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  /** The number of bytes that have not been read. */
  get left(): number {
    return this.bytes.length - this.at
  }

  byte(): number {
    const byte = this.bytes[this.at]
    if (byte === undefined) return this.fail(ENDS_EARLY)
    this.at++
    return byte
  }

  /** Steps over `length` bytes and returns where they begin. */
  advance(length: number): number {
    this.#require(length)
    const start = this.at
    this.at += length
    return start
  }

  /** The number at the position: a BigInt if a number would not be exact. For another item undefined, without a step. */
  number(): number | bigint | undefined {
    const head = this.bytes[this.at] ?? this.fail(ENDS_EARLY)
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
   * Reads consecutive numbers into `items`, from index `i` up to `count`, and stops at the first other item. Returns the
   * index after the last one. This is the hot path of large arrays: it leaves rare forms of numbers to `number`.
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

  #integer64(isNegative: boolean): number | bigint {
    const n = this.#view.getBigUint64(this.advance(8))
    const value = isNegative ? -1n - n : n
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

  /** The argument of a head, for example a length or a tag. It must be a safe integer. */
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
        return n <= Number.MAX_SAFE_INTEGER ? Number(n) : this.fail(`the length or tag ${n} is out of range`)
      }
      default:
        return this.fail(`additional information ${info} is not supported`)
    }
  }

  /**
   * The number of items in a container, or INDEFINITE. Each item takes at least one byte, so all containers together
   * cannot announce more than the message has: memory may be set aside for the result (D3).
   */
  count(info: number, bytesEach: number): number {
    if (info === INDEFINITE_INFO) return INDEFINITE
    const count = this.length(info)
    this.#require(count * bytesEach)
    this.#announced += count * bytesEach
    if (this.#announced > this.bytes.length) this.fail(`${ENDS_EARLY}: its heads announce more items than it has bytes`)
    return count
  }

  /** Whether item number `i` of `count` follows. Steps over the break that ends a container of indefinite length. */
  more(i: number, count: number): boolean {
    return count === INDEFINITE ? !this.isBreak() : i < count
  }

  /** Whether an item of indefinite length ends at the position. If it does, steps over its break. */
  isBreak(): boolean {
    if (this.left === 0) this.fail(`${ENDS_EARLY}: a break is missing`)
    if (this.bytes[this.at] !== 0xff) return false
    this.at++
    return true
  }

  /** The length of the next chunk of a string of indefinite length. A chunk itself has a definite length. */
  chunkLength(major: number): number {
    const head = this.byte()
    if (head >> 5 !== major || (head & 31) === INDEFINITE_INFO) {
      this.fail('a chunk of a string is not a string of the same kind')
    }
    return this.length(head & 31)
  }

  /** The lower five bits of the next head, whose major type must be `major`. */
  infoOf(major: number, otherwise: string): number {
    const { at } = this
    const head = this.byte()
    return head >> 5 === major ? head & 31 : this.fail(otherwise, at)
  }

  /** The depth of the items of a container at `depth`. */
  deeper(depth: number): number {
    if (depth >= MAX_DEPTH) this.fail(`the value is nested deeper than ${MAX_DEPTH} levels`)
    return depth + 1
  }

  #require(length: number): void {
    if (length > this.left) this.fail(`${ENDS_EARLY}: ${length} bytes are announced, ${this.left} are left`)
  }

  fail(why: string, at = this.at): never {
    throw new DecodeError(`malformed CBOR at byte ${at}: ${why}`)
  }
}

const ENDS_EARLY = 'the value ends early'
