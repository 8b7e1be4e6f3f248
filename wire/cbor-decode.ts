import { Reader } from './cbor-reader.js'
import { readBignum, readDateText, readEpochSeconds, readTypedArray } from './cbor-tagged.js'
import { Major, Tag } from './cbor-tags.js'
import { readBytes, readKey, readString } from './cbor-text.js'

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
