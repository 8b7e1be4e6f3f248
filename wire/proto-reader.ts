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
