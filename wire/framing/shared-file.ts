import { readSync, writeSync, writevSync } from 'node:fs'

/**
 * A file in memory through which the two ends of a worker's sockets pass large frames: writing a frame to it and reading
 * it at once costs two copies, while a socket takes a megabyte in many small parts, with a wake-up for each. The header of
 * the frame still goes through the socket, so frames keep their order.
 *
 *     socket   [header: length, place]  ─────────────▶  reader
 *     file     [count of read frames][ frame ][ frame ]
 *
 * One end writes, the other reads. The reader counts in the file how many frames it has read. When that is all of them,
 * the writer begins again at the front. If there is no room, the frame goes through the socket.
 */

/** Frames from this size on, in bytes, go through the file. For smaller ones a socket is as fast. */
export const SHARED_MIN_BYTES = 256 * 1024

/** The size of the file's part for one direction, in bytes, and so the most memory that it takes. */
const PART_BYTES = 8 * 1024 * 1024

/** The count of frames that have been read: an unsigned number of 32 bits, which may wrap around. */
const COUNT_BYTES = 4

/** Where the part of each direction begins. */
export const COMMANDS_PART = 0
export const REPORTS_PART = PART_BYTES

/** Writes large frames. */
export class SharedFileWriter {
  readonly #count = Buffer.alloc(COUNT_BYTES)
  /** Frames so far. */
  #written = 0
  /** Where the next frame begins, in this part. */
  #at = COUNT_BYTES

  /**
   * @param fd the file.
   * @param part where its part begins.
   */
  constructor(
    private readonly fd: number,
    private readonly part: number,
  ) {}

  /** Writes a frame. Returns its place for the reader; undefined if there is no room. */
  put(pieces: readonly Uint8Array[], length: number): number | undefined {
    try {
      if (this.#at > COUNT_BYTES && this.#hasBeenRead) this.#at = COUNT_BYTES
      if (this.#at + length > PART_BYTES) return undefined
      const place = this.part + this.#at
      const [only] = pieces
      const written =
        pieces.length === 1 && only ? writeSync(this.fd, only, 0, length, place) : writevSync(this.fd, pieces, place)
      // The file system may be full.
      if (written !== length) return undefined
      this.#written = (this.#written + 1) >>> 0
      this.#at += length
      return place
    } catch {
      return undefined
    }
  }

  get #hasBeenRead(): boolean {
    readSync(this.fd, this.#count, 0, COUNT_BYTES, this.part)
    return this.#count.readUInt32LE(0) === this.#written
  }
}

/** Reads large frames, in the order in which they were written. */
export class SharedFileReader {
  readonly #count = Buffer.alloc(COUNT_BYTES)
  #read = 0

  constructor(
    private readonly fd: number,
    private readonly part: number,
  ) {}

  /** @throws RangeError if there is no such frame. */
  take(place: number, length: number): Buffer {
    const at = place - this.part
    if (at < COUNT_BYTES || at + length > PART_BYTES) {
      throw new RangeError(`a frame of ${length} bytes at ${place} is announced; the shared file has none there`)
    }
    const frame = Buffer.allocUnsafeSlow(length)
    const read = readSync(this.fd, frame, 0, length, place)
    if (read !== length) throw new RangeError(`the shared file has ${read} of the ${length} bytes of a frame`)
    this.#read = (this.#read + 1) >>> 0
    this.#count.writeUInt32LE(this.#read)
    writeSync(this.fd, this.#count, 0, COUNT_BYTES, this.part)
    return frame
  }
}
