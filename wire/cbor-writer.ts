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
