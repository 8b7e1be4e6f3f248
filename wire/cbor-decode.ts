import { INDEFINITE, Reader } from './cbor-reader.js'
import { Major, Tag, TYPED_ARRAY_OF_TAG } from './cbor-tags.js'
import { readKey, readText } from './cbor-text.js'

/** A whole number may take so many bytes: 32,768 bits. Printing a larger one would take a worker's time. */
const MAX_BIGNUM_BYTES = 4096

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
  const head = reader.byte()
  const info = head & 31
  switch (head >> 5) {
    case Major.UNSIGNED:
      return info < 27 ? reader.length(info) : readInteger(reader, info, false)
    case Major.NEGATIVE:
      return readInteger(reader, info, true)
    case Major.BYTES:
      return readBytes(reader, info)
    case Major.TEXT:
      return readString(reader, info)
    case Major.ARRAY:
      return readArray(reader, reader.count(info, 1), reader.deeper(depth))
    case Major.MAP:
      return readObject(reader, reader.count(info, 2), reader.deeper(depth))
    case Major.TAG:
      return readTagged(reader, reader.length(info), reader.deeper(depth))
    default:
      return readSimple(reader, info)
  }
}

/** A number where it is exact, otherwise a BigInt. */
function readInteger(reader: Reader, info: number, negative: boolean): number | bigint {
  if (info === 27) {
    const n = reader.uint64()
    const value = negative ? -1n - n : n
    return value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER ? Number(value) : value
  }
  const n = reader.length(info)
  return negative ? -1 - n : n
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
    case 25:
      return reader.float16()
    case 26:
      return reader.float32()
    case 27:
      return reader.float64()
    case 31:
      return reader.fail('a break stands outside of an item of indefinite length')
    default:
      return reader.fail(`simple value ${info} has no meaning here`)
  }
}

function readBytes(reader: Reader, info: number): Uint8Array {
  if (info === 31) return Uint8Array.from(Buffer.concat(readPieces(reader, Major.BYTES)))
  const length = reader.length(info)
  const start = reader.advance(length)
  return new Uint8Array(reader.bytes.buffer, reader.bytes.byteOffset + start, length)
}

function readString(reader: Reader, info: number): string {
  if (info === 31) {
    const pieces = readPieces(reader, Major.TEXT)
    return pieces.map((piece) => readText(piece, 0, piece.length)).join('')
  }
  const length = reader.length(info)
  const start = reader.advance(length)
  return readText(reader.bytes, start, start + length)
}

/** The pieces of a string of indefinite length. */
function readPieces(reader: Reader, major: number): Buffer[] {
  const pieces: Buffer[] = []
  while (!reader.isBreak()) {
    const head = reader.byte()
    if (head >> 5 !== major || (head & 31) === 31) reader.fail('a piece of a string is not a string of the same kind')
    const length = reader.length(head & 31)
    const start = reader.advance(length)
    pieces.push(reader.bytes.subarray(start, start + length))
  }
  return pieces
}

function readArray(reader: Reader, count: number, depth: number): unknown[] {
  const items: unknown[] = []
  if (count === INDEFINITE) while (!reader.isBreak()) items.push(readValue(reader, depth))
  else for (let i = 0; i < count; i++) items.push(readValue(reader, depth))
  return items
}

/** An object; a Map where a key is not a text. */
function readObject(reader: Reader, count: number, depth: number): unknown {
  const start = reader.at
  const object: Record<string, unknown> = {}
  for (let i = 0; count === INDEFINITE ? !reader.isBreak() : i < count; i++) {
    const head = reader.byte()
    if (head >> 5 !== Major.TEXT) {
      reader.at = start
      return readMap(reader, count, depth)
    }
    const info = head & 31
    const key = info < 24 ? readShortKey(reader, info) : readString(reader, info)
    const value = readValue(reader, depth)
    if (key === '__proto__') {
      // An own property, like any other; an assignment would set the prototype.
      Object.defineProperty(object, key, { value, writable: true, enumerable: true, configurable: true })
    } else object[key] = value
  }
  return object
}

function readShortKey(reader: Reader, length: number): string {
  const start = reader.advance(length)
  return readKey(reader.bytes, start, start + length)
}

function readMap(reader: Reader, count: number, depth: number): Map<unknown, unknown> {
  const map = new Map<unknown, unknown>()
  for (let i = 0; count === INDEFINITE ? !reader.isBreak() : i < count; i++) {
    const key = readValue(reader, depth)
    map.set(key, readValue(reader, depth))
  }
  return map
}

function readTagged(reader: Reader, tag: number, depth: number): unknown {
  const { at } = reader
  switch (tag) {
    case Tag.SELF_DESCRIBED:
      return readValue(reader, depth)
    case Tag.DATE_STRING: {
      const text = readValue(reader, depth)
      const date = new Date(typeof text === 'string' ? text : Number.NaN)
      return Number.isNaN(date.getTime()) ? reader.fail('a date is not one of RFC 3339', at) : date
    }
    case Tag.EPOCH_SECONDS: {
      const seconds = readValue(reader, depth)
      return typeof seconds === 'number'
        ? new Date(Math.round(seconds * 1000))
        : reader.fail('a date is not a number', at)
    }
    case Tag.POSITIVE_BIGNUM:
      return readBignum(reader, at, depth)
    case Tag.NEGATIVE_BIGNUM:
      return -1n - readBignum(reader, at, depth)
    case Tag.SET: {
      const items = readValue(reader, depth)
      return Array.isArray(items) ? new Set(items) : reader.fail('a set is not an array', at)
    }
    case Tag.MAP: {
      const head = reader.byte()
      if (head >> 5 !== Major.MAP) reader.fail('tag 259 does not stand before a map', at)
      return readMap(reader, reader.count(head & 31, 2), depth)
    }
    default:
      return readTypedArray(reader, tag, at, depth)
  }
}

function readBignum(reader: Reader, at: number, depth: number): bigint {
  const bytes = readValue(reader, depth)
  if (!(bytes instanceof Uint8Array)) return reader.fail('a bignum is not a byte string', at)
  if (bytes.length > MAX_BIGNUM_BYTES)
    reader.fail(`a bignum takes ${bytes.length} bytes; at most ${MAX_BIGNUM_BYTES}`, at)
  return bytes.length === 0 ? 0n : BigInt(`0x${Buffer.from(bytes).toString('hex')}`)
}

function readTypedArray(reader: Reader, tag: number, at: number, depth: number): ArrayBufferView {
  const row = TYPED_ARRAY_OF_TAG.get(tag)
  if (!row) return reader.fail(`tag ${tag} has no meaning here`, at)
  const bytes = readValue(reader, depth)
  if (!(bytes instanceof Uint8Array) || bytes.length % row.bytes !== 0) {
    return reader.fail(`a typed array is not a byte string of a multiple of ${row.bytes}`, at)
  }
  const aligned = bytes.byteOffset % row.bytes === 0 && !row.swapped ? bytes : Uint8Array.from(bytes)
  if (row.swapped) swap(aligned, row.bytes)
  return new row.make(aligned.buffer, aligned.byteOffset, aligned.length / row.bytes)
}

/** From the other byte order to this machine's, in place. */
function swap(bytes: Uint8Array, width: 1 | 2 | 4 | 8): void {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  if (width === 2) buffer.swap16()
  else if (width === 4) buffer.swap32()
  else if (width === 8) buffer.swap64()
}
