import { DecodeError } from './codec-errors.js'
import { MAX_DEPTH } from './place.js'

/** What #count gives for an item whose end is a break. */
export const INDEFINITE = -1

/** A place in CBOR bytes, and the small things that can be read there. All throw DecodeError with the offset. */
export class Reader {
  readonly bytes: Buffer
  readonly #view: DataView
  at = 0

  constructor(bytes: Uint8Array) {
    this.bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  /** How many bytes have not been read. */
  get left(): number {
    return this.bytes.length - this.at
  }

  byte(): number {
    const byte = this.bytes[this.at]
    if (byte === undefined) return this.fail('the value ends early')
    this.at++
    return byte
  }

  /** Where the next `length` bytes begin. */
  advance(length: number): number {
    this.available(length)
    const start = this.at
    this.at += length
    return start
  }

  uint64(): bigint {
    return this.#view.getBigUint64(this.advance(8))
  }

  /** IEEE 754 half precision (RFC 8949, appendix D). */
  float16(): number {
    const bits = this.#view.getUint16(this.advance(2))
    const exponent = (bits >> 10) & 31
    const fraction = bits & 1023
    let magnitude = fraction === 0 ? Number.POSITIVE_INFINITY : Number.NaN
    if (exponent === 0) magnitude = fraction * 2 ** -24
    else if (exponent < 31) magnitude = (fraction + 1024) * 2 ** (exponent - 25)
    return bits & 0x8000 ? -magnitude : magnitude
  }

  float32(): number {
    return this.#view.getFloat32(this.advance(4))
  }

  float64(): number {
    return this.#view.getFloat64(this.advance(8))
  }

  /** The number behind a head, which has to be one that a double holds: a length, a tag, a small integer. */
  length(info: number): number {
    if (info < 24) return info
    switch (info) {
      case 24:
        return this.byte()
      case 25:
        return this.#view.getUint16(this.advance(2))
      case 26:
        return this.#view.getUint32(this.advance(4))
      case 27: {
        const n = this.uint64()
        return n <= Number.MAX_SAFE_INTEGER ? Number(n) : this.fail(`the number ${n} is out of range`)
      }
      default:
        return this.fail(`additional information ${info} has no meaning here`)
    }
  }

  /** How many items follow; INDEFINITE until a break. Never more than the bytes that are left could hold. */
  count(info: number, bytesEach: number): number {
    if (info === 31) return INDEFINITE
    const count = this.length(info)
    this.available(count * bytesEach)
    return count
  }

  /** Throws where fewer bytes are left. */
  available(length: number): void {
    if (length > this.left) this.fail(`the value ends early: ${length} bytes are announced and ${this.left} are left`)
  }

  /** Whether an item of indefinite length ends here; if so, steps over its break. */
  isBreak(): boolean {
    if (this.left === 0) this.fail('the value ends early: a break is missing')
    if (this.bytes[this.at] !== 0xff) return false
    this.at++
    return true
  }

  /** The depth of what is in a container at this depth. */
  deeper(depth: number): number {
    if (depth >= MAX_DEPTH) this.fail(`the value is nested deeper than ${MAX_DEPTH} levels`)
    return depth + 1
  }

  fail(why: string, at = this.at): never {
    throw new DecodeError(`malformed CBOR at byte ${at}: ${why}`)
  }
}
