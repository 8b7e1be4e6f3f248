/** A buffer for all is made when one part in so many has come: who announces much and sends little takes little. */
const EARLY = 8

/** Shorter ones are joined at their end: that takes a millisecond at most. */
export const LARGE_BYTES = 1024 * 1024

/**
 * Bytes that come in pieces, joined as they come. To join 70 MB at their end takes 60 ms, for which a whole event loop waits;
 * this way it takes each turn as much as has come in it.
 */
export class ChunkAssembler {
  #pieces: Uint8Array[] = []
  #joined: Buffer | undefined
  #length = 0

  /** Whether it is time to make a buffer for all. */
  static isEnough(length: number, expected: number): boolean {
    return expected >= LARGE_BYTES && length * EARLY >= expected
  }

  /** @param expected how many there will be; it costs only time where there are others. */
  constructor(private readonly expected: number) {}

  get length(): number {
    return this.#length
  }

  add(piece: Uint8Array): void {
    const length = this.#length + piece.length
    if (!this.#joined && ChunkAssembler.isEnough(length, this.expected)) {
      this.#joined = Buffer.allocUnsafeSlow(this.expected)
      let at = 0
      for (const early of this.#pieces.splice(0)) {
        this.#joined.set(early, at)
        at += early.length
      }
    }
    if (this.#joined && length <= this.expected) this.#joined.set(piece, this.#length)
    else this.#pieces.push(piece)
    this.#length = length
  }

  /** Adds what is missing; returns what comes behind it, undefined where it is not whole yet. */
  fill<Bytes extends Uint8Array>(piece: Bytes): Bytes | undefined {
    const missing = this.expected - this.#length
    this.add(piece.subarray(0, missing))
    return piece.length < missing ? undefined : (piece.subarray(missing) as Bytes)
  }

  /** All that has come. */
  take(): Buffer {
    const joined = this.#joined
    if (!joined) return Buffer.concat(this.#pieces, this.#length)
    const left = this.#pieces.reduce((sum, piece) => sum + piece.length, 0)
    const most = joined.subarray(0, this.#length - left)
    return left === 0 ? most : Buffer.concat([most, ...this.#pieces])
  }
}
