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
