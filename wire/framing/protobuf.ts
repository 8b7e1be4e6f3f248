/**
 * Protobuf's wire format, written and read by hand for the four messages that every call passes through: CallItem,
 * CallOutcome, Task and Done. Generated code would make an object and a closure for each field (decision 0002);
 * test/unit/hot.test.ts checks that both agree.
 *
 *     ProtoWriter      fields into one growing buffer, large values by reference
 *     Pieces           a message that was written so: its bytes, not joined
 *     ProtoReader      fields of a message, in place
 *     decodeStrictly   a whole message by generated code, but strict
 *     checkFields      the number of fields of a message, before anything is made of it
 */

import { BinaryReader, WireType } from '@bufbuild/protobuf/wire'

/** A buffer that has grown larger is not kept for the next message. */
const KEEP_BYTES = 512 * 1024

/** A value of this size or more is not copied into the buffer but becomes a piece of its own. */
export const REFERENCE_BYTES = 32 * 1024

/** An encoded message. A large value in it is a piece of its own, so the value is not copied. */
export class Pieces {
  /** In bytes. */
  readonly length: number

  constructor(readonly pieces: readonly Uint8Array[]) {
    let length = 0
    for (const piece of pieces) length += piece.length
    this.length = length
  }

  /** What follows the first `bytes`. */
  after(bytes: number): Pieces {
    let skip = bytes
    const rest: Uint8Array[] = []
    for (const piece of this.pieces) {
      if (skip < piece.length) rest.push(piece.subarray(skip))
      skip = Math.max(0, skip - piece.length)
    }
    return new Pieces(rest)
  }

  /** Its bytes in one buffer: a copy, unless there is only one piece. */
  joined(): Buffer {
    const [first] = this.pieces
    if (this.pieces.length !== 1 || !first) return Buffer.concat(this.pieces, this.length)
    return Buffer.from(first.buffer, first.byteOffset, first.length)
  }
}

/** Writes fields, one after another. A writer is used for many messages. */
export class ProtoWriter {
  #bytes: Buffer
  /** How much of #bytes is written. */
  #length = 0
  /** The pieces before #bytes: large values by reference, and what was written before each of them. */
  #pieces: Uint8Array[] = []
  #piecesLength = 0

  constructor(capacity = 1024) {
    this.#bytes = Buffer.allocUnsafeSlow(capacity)
  }

  /** The number of bytes so far. */
  get length(): number {
    return this.#piecesLength + this.#length
  }

  /** A field that holds a number. The default, 0, is not written. */
  number(tag: number, value: number): void {
    if (value === 0) return
    this.#reserve(20)
    this.#varint(tag)
    this.#varint(value)
  }

  /** A field that holds a float. The default, 0, is not written. */
  float(tag: number, value: number): void {
    if (value === 0) return
    this.#reserve(14)
    this.#varint(tag)
    this.#length = this.#bytes.writeFloatLE(value, this.#length)
  }

  /** A field that holds a double. The default, 0, is not written. */
  double(tag: number, value: number): void {
    if (value === 0) return
    this.#reserve(18)
    this.#varint(tag)
    this.#length = this.#bytes.writeDoubleLE(value, this.#length)
  }

  /** A field that holds bytes, a text or a message. */
  bytes(tag: number, value: Uint8Array): void {
    this.head(tag, value.length)
    this.raw(value)
  }

  /** The beginning of a field of `length` bytes, which the caller writes next. */
  head(tag: number, length: number): void {
    this.#reserve(20)
    this.#varint(tag)
    this.#varint(length)
  }

  raw(value: Uint8Array): void {
    if (value.length >= REFERENCE_BYTES) return this.#refer(value)
    this.#reserve(value.length)
    // Most values have a few bytes, and for these a loop is faster than a call.
    if (value.length <= 24) for (let i = 0; i < value.length; i++) this.#bytes[this.#length + i] = value[i] as number
    else this.#bytes.set(value, this.#length)
    this.#length += value.length
  }

  uint32BE(value: number): void {
    this.#reserve(4)
    this.#length = this.#bytes.writeUInt32BE(value, this.#length)
  }

  /** The written bytes, in pieces, until the next `reset` or write. */
  views(): readonly Uint8Array[] {
    return [...this.#pieces, this.#bytes.subarray(0, this.#length)]
  }

  /** The written bytes, in pieces that the writer does not touch again. Resets the writer. */
  takePieces(): Pieces {
    if (this.#length > 0) this.#pieces.push(this.#copy())
    const pieces = this.#pieces
    this.#pieces = []
    this.reset()
    return new Pieces(pieces)
  }

  /** The written bytes in one buffer that the writer does not touch again. Resets the writer. */
  take(): Buffer {
    const taken = this.#pieces.length === 0 ? this.#copy() : Buffer.concat(this.views())
    this.reset()
    return taken
  }

  /** Makes the writer empty. */
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

/** The size of a field that ProtoWriter.number writes, for a tag of one byte. */
export const sizeOfNumber = (value: number): number => (value === 0 ? 0 : 1 + sizeOfVarint(value))

/** The size of a field that holds `length` bytes, for a tag of one byte. */
export const sizeOfField = (length: number): number => 1 + sizeOfVarint(length) + length

function sizeOfVarint(value: number): number {
  let size = 1
  for (; value > 127; value = Math.floor(value / 128)) size++
  return size
}

/** Wire types: the lower three bits of a tag. Types 3 and 4, groups, are refused. */
const VARINT = 0
const FIXED64 = 1
const LENGTH = 2
const FIXED32 = 5

/** Reads the fields of a message in place. Everything that protobuf does not allow is an Error with the reason. */
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

  /** Whether another field follows. */
  get more(): boolean {
    return this.#at < this.#end
  }

  /** The index of the next byte in the buffer. */
  get position(): number {
    return this.#at
  }

  /** The tag of the next field: its number and its wire type in one. */
  tag(): number {
    const tag = this.varint()
    const type = tag & 7
    if (tag < 8 || tag > 0xffffffff || type > FIXED32 || type === 3 || type === 4) {
      throw new Error(`a field has the invalid tag ${tag}`)
    }
    return tag
  }

  /** @throws Error for a number that is not a safe integer. */
  varint(): number {
    let value = 0
    let scale = 1
    for (let i = 0; i < 10; i++) {
      if (this.#at >= this.#end) throw new Error(TRUNCATED)
      const byte = this.buffer[this.#at++] as number
      value += (byte & 127) * scale
      if (byte < 128) {
        if (value > Number.MAX_SAFE_INTEGER) {
          throw new Error(`a number is ${value}; the largest is ${Number.MAX_SAFE_INTEGER}`)
        }
        return value
      }
      scale *= 128
    }
    throw new Error(TOO_LONG)
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

  /** Steps over a field that the caller does not know, after its tag. */
  skip(tag: number): void {
    switch (tag & 7) {
      case VARINT:
        for (let i = 0; ; i++) {
          if (this.#at >= this.#end) throw new Error(TRUNCATED)
          if (i === 10) throw new Error(TOO_LONG)
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
      throw new Error(`a field announces ${length} bytes, ${this.#end - this.#at} are left`)
    }
    return length
  }

  #fixed(bytes: number): number {
    const at = this.#at
    if (at + bytes > this.#end) throw new Error(TRUNCATED)
    this.#at += bytes
    return at
  }
}

const TRUNCATED = 'the message ends inside a number'
const TOO_LONG = 'a number has more than ten bytes'

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/**
 * Decodes a message of another peer by its generated code, but strictly: alone, that code silently stops at an end-group
 * tag and replaces bytes that are not UTF-8.
 * @throws Error with the reason.
 */
export function decodeStrictly<T>(message: { decode(reader: BinaryReader): T }, bytes: Uint8Array): T {
  const reader = new BinaryReader(bytes)
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag()
    if (wireType === WireType.EndGroup) throw new Error('a group ends that has not begun')
    reader.skip(wireType, field)
  }
  return message.decode(new BinaryReader(bytes, (text) => utf8.decode(text)))
}

/** The fields of a message that checkFields looks into: messages by their own shape, and packed numbers. */
export interface Shape {
  readonly [field: number]: Shape | 'packed'
}

/**
 * Counts the fields of a message and of the messages inside it. A message is counted before it is decoded, because an empty
 * field takes two bytes on the wire and more than a hundred in memory.
 * @throws Error for more than `max` fields, and for everything that ProtoReader refuses.
 */
export function checkFields(bytes: Uint8Array, shape: Shape, max: number): void {
  // A field takes at least two bytes and a packed number at least one, so most messages are too short to be counted.
  if (bytes.length <= max) return
  if (countFields(new ProtoReader(bytes), shape, max) > max) throw new Error(`it has more than ${max} fields`)
}

/** Stops counting as soon as the result is above `max`. */
function countFields(reader: ProtoReader, shape: Shape, max: number): number {
  let fields = 0
  while (reader.more && fields <= max) {
    const tag = reader.tag()
    fields++
    const nested = (tag & 7) === LENGTH ? shape[tag >>> 3] : undefined
    if (nested === undefined) reader.skip(tag)
    else if (nested === 'packed') {
      const numbers = reader.message()
      for (; numbers.more && fields <= max; fields++) numbers.varint()
    } else fields += countFields(reader.message(), nested, max - fields)
  }
  return fields
}

/** How many bytes the arguments of a call, or its chunk, have. */
export function bytesOf(args: readonly Uint8Array[], chunk: Uint8Array | undefined): number {
  let bytes = chunk?.length ?? 0
  for (const arg of args) bytes += arg.length
  return bytes
}

/** The same bytes: grpc-js takes only Buffers. */
export const asBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
