/** From this size on, in bytes, pieces are copied as they arrive. Joining fewer at the end takes a millisecond at most. */
export const LARGE_BYTES = 1024 * 1024

/** The whole buffer is allocated when this fraction has arrived: a peer that only announces much costs no memory. */
const EARLY_FRACTION = 1 / 8

/**
 * Joins bytes that arrive in pieces. Joining 70 MB at the end takes 60 ms, in which the event loop does nothing else. The
 * assembler copies each piece when it arrives, which spreads that time.
 */
export class ChunkAssembler {
  /** Pieces that are not in #joined: the first ones until it exists, and those beyond the expected length. */
  #pieces: Uint8Array[] = []
  #joined: Buffer | undefined
  #length = 0

  /** Whether enough of a message has arrived to allocate a buffer for all of it. */
  static isEnough(length: number, expected: number): boolean {
    return expected >= LARGE_BYTES && length >= expected * EARLY_FRACTION
  }

  /** @param expected the total in bytes. More or fewer bytes are joined correctly too, but slower. */
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

  /** Adds the bytes that are missing. Returns the bytes after the end, or undefined if some are still missing. */
  fill<Bytes extends Uint8Array>(piece: Bytes): Bytes | undefined {
    const missing = this.expected - this.#length
    this.add(piece.subarray(0, missing))
    return piece.length < missing ? undefined : (piece.subarray(missing) as Bytes)
  }

  /** All bytes that have been added. */
  take(): Buffer {
    const joined = this.#joined
    if (!joined) return Buffer.concat(this.#pieces, this.#length)
    const left = this.#pieces.reduce((sum, piece) => sum + piece.length, 0)
    const most = joined.subarray(0, this.#length - left)
    return left === 0 ? most : Buffer.concat([most, ...this.#pieces])
  }
}
