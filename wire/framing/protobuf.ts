import { BinaryReader, WireType } from '@bufbuild/protobuf/wire'

/**
 * Protobuf's wire format, written into one growing buffer: for the four messages that every call passes through, which
 * generated code would write with an object and a closure for each field. test/unit/hot.test.ts holds them to that code.
 */
export class ProtoWriter {
  #bytes: Buffer
  /** Of #bytes. */
  #length = 0
  /** What stands before #bytes: large values are not copied, but stand between what was written around them. */
  #pieces: Uint8Array[] = []
  #piecesLength = 0

  constructor(capacity = 1024) {
    this.#bytes = Buffer.allocUnsafeSlow(capacity)
  }

  get length(): number {
    return this.#piecesLength + this.#length
  }

  varint(value: number): void {
    this.#reserve(10)
    this.#varint(value)
  }

  /** A field that holds a number; nothing for 0, its default. */
  number(tag: number, value: number): void {
    if (value === 0) return
    this.#reserve(20)
    this.#varint(tag)
    this.#varint(value)
  }

  float(tag: number, value: number): void {
    if (value === 0) return
    this.#reserve(14)
    this.#varint(tag)
    this.#length = this.#bytes.writeFloatLE(value, this.#length)
  }

  /** A field that holds bytes, a text or a message. */
  bytes(tag: number, value: Uint8Array): void {
    this.head(tag, value.length)
    this.raw(value)
  }

  /** The beginning of a field of so many bytes, which the caller writes next. */
  head(tag: number, length: number): void {
    this.#reserve(20)
    this.#varint(tag)
    this.#varint(length)
  }

  raw(value: Uint8Array): void {
    if (value.length >= REFERENCE_BYTES) return this.#refer(value)
    this.#reserve(value.length)
    // A loop is faster than a call for the few bytes that most values have.
    if (value.length <= 24) for (let i = 0; i < value.length; i++) this.#bytes[this.#length + i] = value[i] as number
    else this.#bytes.set(value, this.#length)
    this.#length += value.length
  }

  uint32BE(value: number): void {
    this.#reserve(4)
    this.#length = this.#bytes.writeUInt32BE(value, this.#length)
  }

  /** What has been written, in pieces; views that the next `reset` makes invalid. */
  views(): readonly Uint8Array[] {
    return [...this.#pieces, this.#bytes.subarray(0, this.#length)]
  }

  /** What has been written, for good, in pieces; the writer begins anew. */
  takePieces(): Uint8Array[] {
    if (this.#length > 0) this.#pieces.push(this.#copy())
    const pieces = this.#pieces
    this.#pieces = []
    this.reset()
    return pieces
  }

  /** What has been written, for good; the writer begins anew. */
  take(): Buffer {
    const taken =
      this.#pieces.length === 0 ? this.#copy() : Buffer.concat([...this.#pieces, this.#bytes.subarray(0, this.#length)])
    this.reset()
    return taken
  }

  /** Begins anew. A buffer that has grown much is let go. */
  reset(): void {
    this.#length = 0
    if (this.#pieces.length > 0) this.#pieces = []
    this.#piecesLength = 0
    if (this.#bytes.length > KEEP_BYTES) this.#bytes = Buffer.allocUnsafeSlow(KEEP_BYTES)
  }

  #copy(): Buffer {
    const copy = Buffer.allocUnsafe(this.#length)
    this.#bytes.copy(copy, 0, 0, this.#length)
    return copy
  }

  #refer(value: Uint8Array): void {
    if (this.#length > 0) this.#pieces.push(this.#copy())
    this.#piecesLength += this.#length + value.length
    this.#length = 0
    this.#pieces.push(value)
  }

  #varint(value: number): void {
    for (; value > 127; value = value < 2 ** 31 ? value >>> 7 : Math.floor(value / 128)) {
      this.#bytes[this.#length++] = (value & 127) | 128
    }
    this.#bytes[this.#length++] = value
  }

  #reserve(bytes: number): void {
    const needed = this.#length + bytes
    if (needed <= this.#bytes.length) return
    const grown = Buffer.allocUnsafeSlow(Math.max(needed, 2 * this.#bytes.length))
    this.#bytes.copy(grown, 0, 0, this.#length)
    this.#bytes = grown
  }
}

const KEEP_BYTES = 512 * 1024
/** Copying less is cheaper than keeping a piece of its own. */
const REFERENCE_BYTES = 32 * 1024

/** How many bytes a varint takes. */
function sizeOfVarint(value: number): number {
  let size = 1
  for (; value > 127; value = Math.floor(value / 128)) size++
  return size
}

/** How many bytes a field takes that holds a number and whose tag takes one; none for 0, its default. */
export const sizeOfNumber = (value: number): number => (value === 0 ? 0 : 1 + sizeOfVarint(value))

/** How many bytes a field takes that holds `length` bytes and whose tag takes one. */
export const sizeOfField = (length: number): number => 1 + sizeOfVarint(length) + length

const VARINT = 0
const FIXED64 = 1
const LENGTH = 2
const FIXED32 = 5

/** Protobuf's wire format, read in place. Strict: what cannot be is an Error that says what is wrong. */
export class ProtoReader {
  #at: number
  #end: number

  constructor(
    private readonly buffer: Uint8Array,
    at = 0,
    end = buffer.length,
  ) {
    this.#at = at
    this.#end = end
  }

  get more(): boolean {
    return this.#at < this.#end
  }

  get position(): number {
    return this.#at
  }

  /** The next field's number and wire type, as they stand. */
  tag(): number {
    const tag = this.varint()
    const type = tag & 7
    if (tag < 8 || tag > 0xffffffff || type > FIXED32 || type === 3 || type === 4) {
      throw new Error(`a field has the tag ${tag}, which cannot be`)
    }
    return tag
  }

  /** @throws Error for a number that no JavaScript number holds. */
  varint(): number {
    let value = 0
    let scale = 1
    for (let i = 0; i < 10; i++) {
      if (this.#at >= this.#end) throw new Error('a number is cut')
      const byte = this.buffer[this.#at++] as number
      value += (byte & 127) * scale
      if (byte < 128) {
        if (value > Number.MAX_SAFE_INTEGER) throw new Error(`a number is ${value}; at most ${Number.MAX_SAFE_INTEGER}`)
        return value
      }
      scale *= 128
    }
    throw new Error('a number has more than ten bytes')
  }

  /** The bytes of a field, as a view. */
  bytes(): Uint8Array {
    const length = this.#length()
    const at = this.#at
    this.#at += length
    return new Uint8Array(this.buffer.buffer, this.buffer.byteOffset + at, length)
  }

  /** A reader of a field that holds a message. */
  message(): ProtoReader {
    const length = this.#length()
    const at = this.#at
    this.#at += length
    return new ProtoReader(this.buffer, at, at + length)
  }

  float(): number {
    const at = this.#fixed(4)
    return new DataView(this.buffer.buffer, this.buffer.byteOffset + at, 4).getFloat32(0, true)
  }

  double(): number {
    const at = this.#fixed(8)
    return new DataView(this.buffer.buffer, this.buffer.byteOffset + at, 8).getFloat64(0, true)
  }

  skip(tag: number): void {
    switch (tag & 7) {
      case VARINT:
        for (let i = 0; ; i++) {
          if (this.#at >= this.#end) throw new Error('a number is cut')
          if (i === 10) throw new Error('a number has more than ten bytes')
          if ((this.buffer[this.#at++] as number) < 128) return
        }
      case FIXED64:
        this.#fixed(8)
        return
      case LENGTH: {
        const length = this.#length()
        this.#at += length
        return
      }
      default:
        this.#fixed(4)
    }
  }

  #length(): number {
    const length = this.varint()
    if (length > this.#end - this.#at) {
      throw new Error(`a field announces ${length} bytes where ${this.#end - this.#at} are left`)
    }
    return length
  }

  #fixed(bytes: number): number {
    const at = this.#at
    if (at + bytes > this.#end) throw new Error('a number is cut')
    this.#at += bytes
    return at
  }
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/**
 * Decodes a message that another peer made, strictly: generated decoders stop without a word at a tag that cannot be,
 * and replace bytes that are not UTF-8. @throws Error that says what is wrong.
 */
export function decodeStrictly<T>(message: { decode(reader: BinaryReader): T }, bytes: Uint8Array): T {
  const reader = new BinaryReader(bytes)
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag()
    if (wireType === WireType.EndGroup) throw new Error('a group ends that never began')
    reader.skip(wireType, field)
  }
  return message.decode(new BinaryReader(bytes, (text) => utf8.decode(text)))
}

/** Which fields of a message are messages whose own fields count, and which are numbers packed into one. */
export interface Shape {
  readonly [field: number]: Shape | 'packed'
}

/**
 * Throws for a message of more than `max` fields, in all its depth, without making anything of them: an empty field is
 * two bytes on the wire, and a hundred and more when it has been decoded. Strict as the reader is.
 */
export function checkFields(bytes: Uint8Array, shape: Shape, max: number): void {
  // The smallest field takes two bytes, the smallest number of a packed one takes one: most messages need no look.
  if (bytes.length <= max) return
  if (count(new ProtoReader(bytes), shape, max) > max) throw new Error(`it has more than ${max} fields`)
}

function count(reader: ProtoReader, shape: Shape, max: number): number {
  let fields = 0
  while (reader.more && fields <= max) {
    const tag = reader.tag()
    fields++
    const nested = (tag & 7) === 2 ? shape[tag >>> 3] : undefined
    if (nested === undefined) reader.skip(tag)
    else if (nested === 'packed') {
      const numbers = reader.message()
      for (; numbers.more && fields <= max; fields++) numbers.varint()
    } else fields += count(reader.message(), nested, max - fields)
  }
  return fields
}
