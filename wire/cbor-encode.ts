import { MAX_BIGNUM_BYTES, Major, TAG_OF_TYPED_ARRAY, Tag } from './cbor-tags.js'
import { Writer } from './cbor-writer.js'
import { EncodeError, toEncodeError } from './codec-errors.js'
import { describeKind, MAX_DEPTH, Place } from './place.js'

/**
 * Encodes a value as CBOR (RFC 8949). What arrives as what: docs/values.md.
 * @throws EncodeError for what cannot be sent: functions, symbols, cycles, objects that are more than their properties.
 */
export function encodeCbor(value: unknown): Uint8Array {
  return encodeCborBehind(value, 0, (writer) => writer.copy(0))
}

/** For whoever puts something in front of the encoding: `finish` gets the writer, with so much room before the value. */
export function encodeCborBehind(value: unknown, room: number, finish: (writer: Writer) => Uint8Array): Uint8Array {
  const writer = Writer.take(room)
  try {
    new Encoder(writer).root(value)
    return finish(writer)
  } finally {
    writer.release()
  }
}

const MAX_SAFE = BigInt(Number.MAX_SAFE_INTEGER)
const TWO_64 = 2n ** 64n
const hasOwn = Object.prototype.hasOwnProperty

class Encoder {
  readonly #place = new Place()
  /** The containers that the current value is in: one that is in itself is a cycle. */
  readonly #inside: object[] = []

  constructor(private readonly writer: Writer) {}

  root(value: unknown): void {
    try {
      this.#value(value)
    } catch (error) {
      throw toEncodeError(error, this.#place.at(this.#inside.length))
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
    if (hex.length > 2 * MAX_BIGNUM_BYTES) {
      this.#fail(`is a BigInt of more than ${MAX_BIGNUM_BYTES} bytes; send it as bytes or as text`)
    }
    this.#bytes(Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, 'hex'))
  }

  #bytes(bytes: Uint8Array): void {
    this.writer.head(Major.BYTES, bytes.length)
    this.writer.raw(bytes)
  }

  #object(value: object): void {
    if (Array.isArray(value)) return this.#array(value)
    if (ArrayBuffer.isView(value)) return this.#view(value)
    const prototype: unknown = Object.getPrototypeOf(value)
    if (prototype === Object.prototype || prototype === null) return this.#properties(value)
    // Before their tags are asked for: a subclass can give itself another one.
    if (value instanceof Date) return this.#date(value)
    if (value instanceof Map) return this.#map(value)
    if (value instanceof Set) return this.#set(value)
    if (value instanceof ArrayBuffer || value instanceof SharedArrayBuffer) {
      // byteLength throws where it is no buffer but only inherits from one; the constructor alone would make it empty.
      return this.#bytes(new Uint8Array(value, 0, value.byteLength))
    }
    if (Object.prototype.toString.call(value) === '[object Object]') return this.#properties(value)
    return this.#refuse(value)
  }

  /** Every container begins with this and ends with #leave; gives the depth that its items have in #place. */
  #enter(container: object): number {
    const depth = this.#inside.length
    if (this.#inside.includes(container)) this.#fail('is a cycle: it contains itself; send it without')
    if (depth >= MAX_DEPTH) throw new EncodeError(`${this.#place.at(4)}… is nested deeper than ${MAX_DEPTH} levels`)
    this.#inside.push(container)
    return depth
  }

  #leave(): void {
    this.#inside.pop()
  }

  #array(array: readonly unknown[]): void {
    const depth = this.#enter(array)
    // Read once: a getter of an item may change the array, but not the count that is already written.
    const { length } = array
    if (!(Number.isSafeInteger(length) && length >= 0)) this.#fail('is a Proxy of an array, and has no length')
    this.writer.head(Major.ARRAY, length)
    for (let i = 0; i < length; i++) {
      const item = array[i]
      // Numbers and texts cannot fail and need no place. The hot path of map.
      if (typeof item === 'number') this.#number(item)
      else if (typeof item === 'string') this.writer.text(Major.TEXT, item)
      else {
        this.#place.set(depth, i)
        this.#value(item)
      }
    }
    this.#leave()
  }

  #properties(object: object): void {
    const depth = this.#enter(object)
    // Counted, then read: V8 is faster at reading a property inside for…in than by a name from Object.keys.
    let left = 0
    for (const key in object) if (hasOwn.call(object, key)) left++
    this.writer.head(Major.MAP, left)
    for (const key in object) {
      if (!hasOwn.call(object, key)) continue
      if (--left < 0) break
      this.#place.set(depth, key)
      this.writer.text(Major.TEXT, key)
      const item = (object as Record<string, unknown>)[key]
      if (typeof item === 'number') this.#number(item)
      else if (typeof item === 'string') this.writer.text(Major.TEXT, item)
      else this.#value(item)
    }
    this.#leave()
    if (left !== 0) this.#fail('changed while it was being encoded')
  }

  #map(map: ReadonlyMap<unknown, unknown>): void {
    const depth = this.#enter(map)
    const { size } = map
    this.writer.head(Major.TAG, Tag.MAP)
    this.writer.head(Major.MAP, size)
    let i = 0
    for (const [key, value] of map) {
      if (++i > size) break
      this.#place.set(depth, typeof key === 'object' && key !== null ? 'a key' : String(key))
      this.#value(key)
      this.#value(value)
    }
    this.#leave()
    if (i !== size) this.#fail('changed while it was being encoded')
  }

  #set(set: ReadonlySet<unknown>): void {
    const depth = this.#enter(set)
    const { size } = set
    this.writer.head(Major.TAG, Tag.SET)
    this.writer.head(Major.ARRAY, size)
    let i = 0
    for (const item of set) {
      if (++i > size) break
      this.#place.set(depth, i - 1)
      this.#value(item)
    }
    this.#leave()
    if (i !== size) this.#fail('changed while it was being encoded')
  }

  #view(view: ArrayBufferView): void {
    const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength)
    if (view instanceof Uint8Array) return this.#bytes(bytes)
    const tag = TAG_OF_TYPED_ARRAY.get(Object.prototype.toString.call(view).slice(8, -1))
    if (tag === undefined) return this.#refuse(view)
    this.writer.head(Major.TAG, tag)
    this.#bytes(bytes)
  }

  /** As seconds: in the whole range of Date their doubles are nearer to each other than milliseconds are. */
  #date(date: Date): void {
    const ms = date.getTime()
    this.writer.head(Major.TAG, Tag.EPOCH_SECONDS)
    this.#number(ms / 1000)
  }

  #refuse(value: unknown): never {
    this.#fail(`is ${describeKind(value)}, which cannot be sent; send plain data (see docs/values.md)`)
  }

  #fail(why: string): never {
    throw new EncodeError(`${this.#place.at(this.#inside.length)} ${why}`)
  }
}
