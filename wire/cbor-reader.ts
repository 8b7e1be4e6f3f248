import { DecodeError } from './codec-errors.js'
import { MAX_DEPTH } from './place.js'

/** What Reader.count gives for an item whose end is a break. */
export const INDEFINITE = -1

/** A place in CBOR bytes, and the small things that can be read there. All throw DecodeError with the offset. */
export class Reader {
  readonly bytes: Buffer
  readonly #view: DataView
  at = 0
  #announced = 0

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

  /** The number that stands here, a BigInt where a number would not be exact; undefined, and no step, for other items. */
  number(): number | bigint | undefined {
    const head = this.bytes[this.at] ?? this.fail('the value ends early')
    if (head < 0x40) {
      this.at++
      const info = head & 31
      if (info === 27) return this.#integer64(head >= 0x20)
      const n = this.length(info)
      return head < 0x20 ? n : -1 - n
    }
    if (head < 0xf9 || head > 0xfb) return undefined
    this.at++
    if (head === 0xfb) return this.#view.getFloat64(this.advance(8))
    return head === 0xfa ? this.#view.getFloat32(this.advance(4)) : this.#float16()
  }

  /**
   * Puts the numbers that stand here into `items` from index `i` on, until there are `count` or another item comes;
   * gives the index behind the last one. The hot path of large arrays.
   */
  numbers(items: unknown[], i: number, count: number): number {
    const { bytes } = this
    const end = bytes.length
    let { at } = this
    for (; i !== count; i++) {
      const head = bytes[at] ?? 0xff
      if (head < 0x18) {
        items[i] = head
        at++
      } else if (head === 0x18 && at + 2 <= end) {
        items[i] = bytes[at + 1]
        at += 2
      } else if (head === 0x19 && at + 3 <= end) {
        items[i] = this.#view.getUint16(at + 1)
        at += 3
      } else if (head === 0x1a && at + 5 <= end) {
        items[i] = this.#view.getUint32(at + 1)
        at += 5
      } else if (head === 0xfb && at + 9 <= end) {
        items[i] = this.#view.getFloat64(at + 1)
        at += 9
      } else break
    }
    this.at = at
    return i
  }

  #integer64(negative: boolean): number | bigint {
    const n = this.#view.getBigUint64(this.advance(8))
    const value = negative ? -1n - n : n
    return value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER ? Number(value) : value
  }

  /** IEEE 754 half precision (RFC 8949, appendix D). */
  #float16(): number {
    const bits = this.#view.getUint16(this.advance(2))
    const exponent = (bits >> 10) & 31
    const fraction = bits & 1023
    let magnitude = fraction === 0 ? Number.POSITIVE_INFINITY : Number.NaN
    if (exponent === 0) magnitude = fraction * 2 ** -24
    else if (exponent < 31) magnitude = (fraction + 1024) * 2 ** (exponent - 25)
    return bits & 0x8000 ? -magnitude : magnitude
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
        const n = this.#view.getBigUint64(this.advance(8))
        return n <= Number.MAX_SAFE_INTEGER ? Number(n) : this.fail(`the number ${n} is out of range`)
      }
      default:
        return this.fail(`additional information ${info} has no meaning here`)
    }
  }

  /**
   * How many items follow; INDEFINITE until a break. What all containers together announce is never more than the
   * message has bytes, because every item takes one: memory may be set aside for it.
   */
  count(info: number, bytesEach: number): number {
    if (info === 31) return INDEFINITE
    const count = this.length(info)
    this.available(count * bytesEach)
    this.#announced += count * bytesEach
    if (this.#announced > this.bytes.length) this.fail('the value ends early: more items are announced than bytes')
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

  /** Whether item number `i` of `count` follows; steps over the break that ends an item of indefinite length. */
  more(i: number, count: number): boolean {
    return count === INDEFINITE ? !this.isBreak() : i < count
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
