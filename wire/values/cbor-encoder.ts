import { MAX_BIGNUM_BYTES, Major, TAG_OF_TYPED_ARRAY, Tag } from './cbor-tags.js'
import { describeKind, EncodeError, MAX_DEPTH, Place, toEncodeError } from './value-errors.js'

/**
 * Bytes that grow as they are written. One writer is kept and used again, because allocating costs more than
 * encoding most values; a getter of a value that encodes another value gets a second one.
 */
const KEEP_BYTES = 1024 * 1024
const INITIAL_BYTES = 8 * 1024
/** Copying this costs more than a new buffer. */
const LARGE_BYTES = 256 * 1024

let spare: Writer | undefined

/** Values as small as this share a buffer: one of their own costs more than encoding them. */
const SMALL_BYTES = 64
const SLAB_BYTES = 8 * 1024
let slab = new ArrayBuffer(SLAB_BYTES)
let slabAt = 0

function allocateSmall(length: number): Uint8Array {
  if (slabAt + length > SLAB_BYTES) {
    slab = new ArrayBuffer(SLAB_BYTES)
    slabAt = 0
  }
  slabAt += length
  return new Uint8Array(slab, slabAt - length, length)
}

export class Writer {
  #bytes = Buffer.allocUnsafeSlow(INITIAL_BYTES)
  #view = new DataView(this.#bytes.buffer)
  #at = 0

  /** Leaves `room` bytes free in front, for `finish` to fill. */
  static take(room: number): Writer {
    const writer = spare ?? new Writer()
    spare = undefined
    writer.#at = room
    return writer
  }

  /** To be called when its bytes have been copied out, or never will be. */
  release(): void {
    if (this.#bytes.length <= KEEP_BYTES) spare = this
  }

  /** The number of bytes written, with the room in front. */
  get length(): number {
    return this.#at
  }

  /** What was written from `start` on, for good: a copy, or its own buffer where that is large. */
  copy(start: number): Uint8Array {
    const length = this.#at - start
    if (length >= LARGE_BYTES) {
      const own = new Uint8Array(this.#bytes.buffer, start, length)
      this.#bytes = Buffer.allocUnsafeSlow(INITIAL_BYTES)
      this.#view = new DataView(this.#bytes.buffer)
      return own
    }
    if (length > SMALL_BYTES) return new Uint8Array(this.#bytes.subarray(start, this.#at))
    const copy = allocateSmall(length)
    for (let i = 0; i < length; i++) copy[i] = this.#bytes[start + i] as number
    return copy
  }

  /** Overwrites a byte of the room in front. */
  put(at: number, byte: number): void {
    this.#bytes[at] = byte
  }

  byte(byte: number): void {
    this.#ensure(1)
    this.#bytes[this.#at++] = byte
  }

  /** The head of an item: its major type and a number below 2 ** 53, in the shortest form. */
  head(major: number, n: number): void {
    this.#ensure(9)
    const type = major << 5
    if (n < 24) this.#bytes[this.#at++] = type | n
    else if (n < 0x100) {
      this.#bytes[this.#at++] = type | 24
      this.#bytes[this.#at++] = n
    } else if (n < 0x10000) {
      this.#bytes[this.#at] = type | 25
      this.#view.setUint16(this.#at + 1, n)
      this.#at += 3
    } else if (n < 0x100000000) {
      this.#bytes[this.#at] = type | 26
      this.#view.setUint32(this.#at + 1, n)
      this.#at += 5
    } else {
      this.#bytes[this.#at] = type | 27
      this.#view.setUint32(this.#at + 1, Math.floor(n / 0x100000000))
      this.#view.setUint32(this.#at + 5, n >>> 0)
      this.#at += 9
    }
  }

  /** The head of an integer of 64 bits. */
  head64(major: number, n: bigint): void {
    this.#ensure(9)
    this.#bytes[this.#at] = (major << 5) | 27
    this.#view.setBigUint64(this.#at + 1, n)
    this.#at += 9
  }

  float64(n: number): void {
    this.#ensure(9)
    this.#bytes[this.#at] = 0xfb
    this.#view.setFloat64(this.#at + 1, n)
    this.#at += 9
  }

  raw(bytes: Uint8Array): void {
    this.#ensure(bytes.length)
    this.#bytes.set(bytes, this.#at)
    this.#at += bytes.length
  }

  /** A text; lone surrogates become U+FFFD. Short ASCII is copied by hand: calling into C++ costs more. */
  text(major: number, text: string): void {
    const { length } = text
    if (length < 24) {
      this.#ensure(length + 1)
      const start = this.#at + 1
      let i = 0
      for (; i < length; i++) {
        const unit = text.charCodeAt(i)
        if (unit > 0x7f) break
        this.#bytes[start + i] = unit
      }
      if (i === length) {
        this.#bytes[this.#at] = (major << 5) | length
        this.#at = start + length
        return
      }
    }
    const bytes = Buffer.byteLength(text)
    this.head(major, bytes)
    this.#ensure(bytes)
    this.#at += this.#bytes.write(text, this.#at)
  }

  #ensure(more: number): void {
    const needed = this.#at + more
    if (needed <= this.#bytes.length) return
    const grown = Buffer.allocUnsafeSlow(Math.max(2 * this.#bytes.length, needed))
    this.#bytes.copy(grown, 0, 0, this.#at)
    this.#bytes = grown
    this.#view = new DataView(grown.buffer)
  }
}

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
