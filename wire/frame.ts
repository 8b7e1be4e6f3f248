import { FromWorker, ToWorker } from '../proto/gen/farpool/worker/v1/worker.js'
import { MAX_FRAME_BYTES } from './limits.js'

/**
 * Frames between server and worker: four bytes of length, big-endian, then a message of worker.proto.
 * Payloads inside are slices of the received frame: they are passed on, not copied.
 */
export type ToWorkerFrame = NonNullable<ToWorker['kind']>
export type FromWorkerFrame = NonNullable<FromWorker['kind']>

const HEADER_BYTES = 4

export const encodeToWorker = (kind: ToWorkerFrame): Uint8Array => framed(ToWorker.encode({ kind }).finish())
export const encodeFromWorker = (kind: FromWorkerFrame): Uint8Array => framed(FromWorker.encode({ kind }).finish())

/** A frame of a kind that this end does not know (a newer peer) is undefined. */
export const decodeToWorker = (frame: Uint8Array): ToWorkerFrame | undefined => ToWorker.decode(frame).kind
export const decodeFromWorker = (frame: Uint8Array): FromWorkerFrame | undefined => FromWorker.decode(frame).kind

function framed(message: Uint8Array): Uint8Array {
  if (message.length > MAX_FRAME_BYTES) throw new RangeError(`a frame of ${message.length} bytes is too large`)
  const frame = Buffer.allocUnsafe(HEADER_BYTES + message.length)
  frame.writeUInt32BE(message.length)
  frame.set(message, HEADER_BYTES)
  return frame
}

/** Cuts a byte stream into frames. Feed it what the socket reads; it calls back for each whole frame, in order. */
export class FrameReader {
  /** Pieces of a frame that is not whole yet. */
  #pieces: Uint8Array[] = []
  #bytes = 0
  /** Bytes that make the next step possible: a header, or the frame that the header announced. */
  #needed = HEADER_BYTES

  constructor(private readonly onFrame: (frame: Uint8Array) => void) {}

  push(piece: Uint8Array): void {
    this.#pieces.push(piece)
    this.#bytes += piece.length
    if (this.#bytes < this.#needed) return
    const joined = this.#pieces.length === 1 ? piece : Buffer.concat(this.#pieces, this.#bytes)
    const rest = joined.subarray(this.#cut(joined))
    this.#pieces = rest.length > 0 ? [rest] : []
    this.#bytes = rest.length
  }

  /** Calls back for every whole frame of `bytes`; returns where the first that is not whole begins. */
  #cut(bytes: Uint8Array): number {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    let at = 0
    for (;;) {
      this.#needed = HEADER_BYTES
      if (bytes.length - at < HEADER_BYTES) return at
      const length = view.getUint32(at)
      if (length > MAX_FRAME_BYTES)
        throw new RangeError(`a frame of ${length} bytes is announced; at most ${MAX_FRAME_BYTES}`)
      this.#needed = HEADER_BYTES + length
      if (bytes.length - at < this.#needed) return at
      this.onFrame(bytes.subarray(at + HEADER_BYTES, at + this.#needed))
      at += this.#needed
    }
  }
}
