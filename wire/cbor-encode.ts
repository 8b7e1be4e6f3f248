import { Major, Tag, TYPED_ARRAYS } from './cbor-tags.js'
import { Writer } from './cbor-writer.js'
import { EncodeError } from './codec-errors.js'
import { describeKind, MAX_DEPTH, Place } from './place.js'

/**
 * Encodes a value as CBOR (RFC 8949). What arrives as what: docs/values.md.
 * @throws EncodeError for what cannot be sent: functions, symbols, cycles, objects that are more than their properties.
 */
export function encodeCbor(value: unknown): Uint8Array {
  return withWriter(0, (writer) => {
    new Encoder(writer).root(value)
    return writer.copy(0)
  })
}

/** For whoever puts something in front of the encoding: `write` gets a writer with so much room. */
export function encodeCborBehind(value: unknown, room: number, finish: (writer: Writer) => Uint8Array): Uint8Array {
  return withWriter(room, (writer) => {
    new Encoder(writer).root(value)
    return finish(writer)
  })
}

function withWriter(room: number, use: (writer: Writer) => Uint8Array): Uint8Array {
  const writer = Writer.take(room)
  try {
    return use(writer)
  } finally {
    writer.release()
  }
}

const MAX_SAFE = BigInt(Number.MAX_SAFE_INTEGER)
const TWO_64 = 2n ** 64n

class Encoder {
  readonly #place = new Place()
  /** The containers that the current value is in: one that is in itself is a cycle. */
  readonly #inside: object[] = []

  constructor(private readonly writer: Writer) {}

  root(value: unknown): void {
    try {
      this.#value(value)
    } catch (error) {
      if (error instanceof EncodeError) throw error
      const why = error instanceof Error ? error.message : String(error)
      throw new EncodeError(`${this.#place.at(this.#inside.length)} cannot be read: ${why}`, { cause: error })
    }
  }

  #value(value: unknown): void {
    switch (typeof value) {
      case 'number':
        return this.#number(value)
      case 'string':
        return this.writer.text(Major.TEXT, value)
      case 'boolean':
        return this.writer.byte(value ? 0xf5 : 0xf4)
      case 'undefined':
        return this.writer.byte(0xf7)
      case 'bigint':
        return this.#bigint(value)
      case 'object':
        return value === null ? this.writer.byte(0xf6) : this.#object(value)
      default:
        return this.#refuse(value)
    }
  }

  #number(n: number): void {
    if (!Number.isSafeInteger(n) || Object.is(n, -0)) this.writer.float64(n)
    else if (n >= 0) this.writer.head(Major.UNSIGNED, n)
    else this.writer.head(Major.NEGATIVE, -1 - n)
  }

  /** A small one goes as a bignum, so that it arrives as a BigInt again; an integer would arrive as a number. */
  #bigint(n: bigint): void {
    const major = n < 0n ? Major.NEGATIVE : Major.UNSIGNED
    const magnitude = n < 0n ? -1n - n : n
    const small = n >= -MAX_SAFE && n <= MAX_SAFE
    if (!small && magnitude < TWO_64) return this.writer.head64(major, magnitude)
    this.writer.head(Major.TAG, n < 0n ? Tag.NEGATIVE_BIGNUM : Tag.POSITIVE_BIGNUM)
    const hex = magnitude === 0n ? '' : magnitude.toString(16)
    this.#bytes(Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, 'hex'))
  }

  #bytes(bytes: Uint8Array): void {
    this.writer.head(Major.BYTES, bytes.length)
    this.writer.raw(bytes)
  }

  #object(value: object): void {
    if (Array.isArray(value)) return this.#nested(value, () => this.#array(value))
    if (ArrayBuffer.isView(value)) return this.#view(value)
    const prototype: unknown = Object.getPrototypeOf(value)
    if (prototype === Object.prototype || prototype === null) return this.#nested(value, () => this.#properties(value))
    const kind = Object.prototype.toString.call(value).slice(8, -1)
    if (kind === 'Object') return this.#nested(value, () => this.#properties(value))
    if (value instanceof Date) return this.#date(value)
    if (value instanceof Map) return this.#nested(value, () => this.#map(value))
    if (value instanceof Set) return this.#nested(value, () => this.#set(value))
    if (kind === 'ArrayBuffer' || kind === 'SharedArrayBuffer')
      return this.#bytes(new Uint8Array(value as ArrayBufferLike))
    return this.#refuse(value)
  }

  #nested(container: object, encode: () => void): void {
    const depth = this.#inside.length
    if (depth > 0 && this.#inside.includes(container)) {
      throw new EncodeError(`${this.#place.at(depth)} is a cycle: it contains itself; send it without`)
    }
    if (depth >= MAX_DEPTH) throw new EncodeError(`${this.#place.at(4)}… is nested deeper than ${MAX_DEPTH} levels`)
    this.#inside.push(container)
    encode()
    this.#inside.pop()
  }

  #array(array: readonly unknown[]): void {
    const depth = this.#inside.length - 1
    this.writer.head(Major.ARRAY, array.length)
    for (let i = 0; i < array.length; i++) {
      const item = array[i]
      // The items that cannot fail need no place.
      if (typeof item === 'number') this.#number(item)
      else if (typeof item === 'string') this.writer.text(Major.TEXT, item)
      else {
        this.#place.set(depth, i)
        this.#value(item)
      }
    }
  }

  #properties(object: object): void {
    const depth = this.#inside.length - 1
    const keys = Object.keys(object)
    this.writer.head(Major.MAP, keys.length)
    for (const key of keys) {
      this.writer.text(Major.TEXT, key)
      this.#place.set(depth, key)
      this.#value((object as Record<string, unknown>)[key])
    }
  }

  #map(map: ReadonlyMap<unknown, unknown>): void {
    const depth = this.#inside.length - 1
    this.writer.head(Major.TAG, Tag.MAP)
    this.writer.head(Major.MAP, map.size)
    for (const [key, value] of map) {
      this.#place.set(depth, typeof key === 'object' && key !== null ? 'a key' : String(key))
      this.#value(key)
      this.#value(value)
    }
  }

  #set(set: ReadonlySet<unknown>): void {
    const depth = this.#inside.length - 1
    this.writer.head(Major.TAG, Tag.SET)
    this.writer.head(Major.ARRAY, set.size)
    let i = 0
    for (const item of set) {
      this.#place.set(depth, i++)
      this.#value(item)
    }
  }

  #view(view: ArrayBufferView): void {
    const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength)
    if (view instanceof Uint8Array) return this.#bytes(bytes)
    const row = TYPED_ARRAYS[Object.prototype.toString.call(view).slice(8, -1)]
    if (!row) return this.#refuse(view)
    this.writer.head(Major.TAG, row.littleEndian)
    this.#bytes(bytes)
  }

  /** Seconds, where they are exact to the millisecond; far from 1970 a float of seconds is not, but a text is. */
  #date(date: Date): void {
    const ms = date.getTime()
    const seconds = ms / 1000
    if (Number.isNaN(ms) || Math.round(seconds * 1000) === ms) {
      this.writer.head(Major.TAG, Tag.EPOCH_SECONDS)
      return this.#number(seconds)
    }
    this.writer.head(Major.TAG, Tag.DATE_STRING)
    this.writer.text(Major.TEXT, date.toISOString())
  }

  #refuse(value: unknown): never {
    const place = this.#place.at(this.#inside.length)
    throw new EncodeError(
      `${place} is ${describeKind(value)}, which cannot be sent; send plain data (see docs/values.md)`,
    )
  }
}
