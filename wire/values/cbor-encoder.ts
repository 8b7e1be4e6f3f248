/**
 * Writes values as CBOR (RFC 8949). docs/reference/values.md lists what each value becomes; decision 0001 says why this
 * is not a library.
 *
 *     encodeCbor ─▶ Encoder: which items a value consists of ─▶ Writer: the bytes of an item, in one growing buffer
 *
 * C1  Whatever the encoder accepts the decoder accepts too: depth, bignums and dates have the same limits in both.
 * C2  The announced number of items is the number that follows, even if a getter changes the container meanwhile.
 * C3  The only error is an EncodeError that names the part of the value, even if a getter or a Proxy throws.
 * C4  The result shares no memory with the value and is never written to again.
 */

import { MAX_BIGNUM_BYTES, Major, TAG_OF_TYPED_ARRAY, Tag } from './cbor-tags.js'
import { described, EncodeError, formatPath, MAX_DEPTH, toEncodeError, type ValuePath } from './value-errors.js'

/**
 * Encodes a value as CBOR.
 *
 * A caller that puts a header in front of the encoding reserves `room` bytes for it; `finish` then fills in the header
 * and copies both out at once.
 * @throws EncodeError for values that cannot be sent: functions, symbols, cycles, and objects that are more than their
 * properties.
 */
export function encodeCbor(value: unknown, room = 0, finish: (writer: Writer) => Uint8Array = copyAll): Uint8Array {
  const writer = Writer.take(room)
  try {
    new Encoder(writer).encode(value)
    return finish(writer)
  } finally {
    writer.release()
  }
}

const copyAll = (writer: Writer): Uint8Array => writer.copy(0)

const MAX_SAFE = BigInt(Number.MAX_SAFE_INTEGER)
const TWO_64 = 2n ** 64n
const hasOwn = Object.prototype.hasOwnProperty

/** Walks one value. */
class Encoder {
  /** Where the walk is, for error messages. Steps of deeper levels are left over from earlier parts. */
  readonly #path: ValuePath = []
  /** The containers around the current part. A container that is inside itself is a cycle. */
  readonly #containers: object[] = []

  constructor(private readonly writer: Writer) {}

  encode(value: unknown): void {
    try {
      this.#value(value)
    } catch (error) {
      throw toEncodeError(error, formatPath(this.#path, this.#containers.length))
    }
  }

  #value(value: unknown): void {
    switch (typeof value) {
      case 'number':
        return this.#number(value)
      case 'string':
        return this.writer.text(value)
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

  /** A small BigInt is written as a bignum: it would arrive as a number if it were written as an integer. */
  #bigint(n: bigint): void {
    const major = n < 0n ? Major.NEGATIVE : Major.UNSIGNED
    const magnitude = n < 0n ? -1n - n : n
    const isSmall = n >= -MAX_SAFE && n <= MAX_SAFE
    if (!isSmall && magnitude < TWO_64) return this.writer.head64(major, magnitude)
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
    // Classes come before Symbol.toStringTag, which a subclass can override.
    if (value instanceof Date) return this.#date(value)
    if (value instanceof Map) return this.#map(value)
    if (value instanceof Set) return this.#set(value)
    if (value instanceof ArrayBuffer || value instanceof SharedArrayBuffer) {
      // byteLength throws for an object that only inherits from ArrayBuffer. Uint8Array alone would make it empty.
      return this.#bytes(new Uint8Array(value, 0, value.byteLength))
    }
    if (Object.prototype.toString.call(value) === '[object Object]') return this.#properties(value)
    return this.#refuse(value)
  }

  /** Begins a container, which #leave ends. Returns the depth of its items: their index in #path. */
  #enter(container: object): number {
    const depth = this.#containers.length
    if (this.#containers.includes(container)) this.#fail('is a cycle: it contains itself')
    if (depth >= MAX_DEPTH) {
      throw new EncodeError(`${formatPath(this.#path, 4)}… is nested deeper than ${MAX_DEPTH} levels`)
    }
    this.#containers.push(container)
    return depth
  }

  #leave(): void {
    this.#containers.pop()
  }

  #array(array: readonly unknown[]): void {
    const depth = this.#enter(array)
    // Read once (C2): a getter of an item may change the array after its length was written.
    const { length } = array
    if (!(Number.isSafeInteger(length) && length >= 0)) this.#fail('is a Proxy of an array without a valid length')
    this.writer.head(Major.ARRAY, length)
    for (let i = 0; i < length; i++) {
      const item = array[i]
      // Numbers and texts cannot fail, so they need no path. This is the hot path of map.
      if (typeof item === 'number') this.#number(item)
      else if (typeof item === 'string') this.writer.text(item)
      else {
        this.#path[depth] = i
        this.#value(item)
      }
    }
    this.#leave()
  }

  #properties(object: object): void {
    const depth = this.#enter(object)
    // Two loops, to count and to write: V8 reads a property faster inside for…in than by a name from Object.keys.
    let left = 0
    for (const key in object) if (hasOwn.call(object, key)) left++
    this.writer.head(Major.MAP, left)
    for (const key in object) {
      if (!hasOwn.call(object, key)) continue
      if (--left < 0) break
      this.#path[depth] = key
      this.writer.text(key)
      const item = (object as Record<string, unknown>)[key]
      if (typeof item === 'number') this.#number(item)
      else if (typeof item === 'string') this.writer.text(item)
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
      this.#path[depth] = typeof key === 'object' && key !== null ? 'a key' : String(key)
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
      this.#path[depth] = i - 1
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

  /** In seconds. A double holds them to the millisecond over the whole range of Date. */
  #date(date: Date): void {
    this.writer.head(Major.TAG, Tag.EPOCH_SECONDS)
    this.#number(date.getTime() / 1000)
  }

  #refuse(value: unknown): never {
    this.#fail(`is ${described(value)}, which cannot be sent; send plain data (see docs/reference/values.md)`)
  }

  #fail(why: string): never {
    throw new EncodeError(`${formatPath(this.#path, this.#containers.length)} ${why}`)
  }
}

const INITIAL_BYTES = 8 * 1024

/** A larger buffer is not kept for the next value. */
const KEEP_BYTES = 1024 * 1024

/** From this size on the encoding keeps the writer's buffer: copying would cost more than a new buffer. */
const LARGE_BYTES = 256 * 1024

/** The writer that is not in use. A second one is made only if a getter encodes a value while it is being encoded. */
let spare: Writer | undefined

/**
 * The bytes of CBOR items, in a buffer that grows. The writer and its buffer are used again for the next value, because
 * allocating them costs more than encoding most values.
 */
export class Writer {
  #bytes = Buffer.allocUnsafeSlow(INITIAL_BYTES)
  #view = new DataView(this.#bytes.buffer)
  #at = 0

  /** A writer that begins with `room` free bytes, for `put` to fill. */
  static take(room: number): Writer {
    const writer = spare ?? new Writer()
    spare = undefined
    writer.#at = room
    return writer
  }

  /** Ends the use of a writer. Its bytes must have been copied out before. */
  release(): void {
    if (this.#bytes.length <= KEEP_BYTES) spare = this
  }

  /** The number of bytes so far, with the room in front. */
  get length(): number {
    return this.#at
  }

  /** The bytes from `start` on: a copy, or the buffer itself if it is large. The writer never touches them again (C4). */
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

  /** Sets a byte of the room in front. */
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

  /** A text. Lone surrogates become U+FFFD. Short ASCII is copied by a loop: a call into C++ costs more. */
  text(text: string): void {
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
        this.#bytes[this.#at] = (Major.TEXT << 5) | length
        this.#at = start + length
        return
      }
    }
    const bytes = Buffer.byteLength(text)
    this.head(Major.TEXT, bytes)
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

/** Encodings up to this size share a slab: an ArrayBuffer for each would cost more than the encoding. */
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
