import { writeSync } from 'node:fs'
import { Stream } from '../proto/gen/farpool/worker/v1/worker.js'

/** Sends what was printed to the server; false where too much of it still waits to be read there. */
export type SendPrint = (stream: Stream, text: string) => boolean

/**
 * Sends what functions print as frames, which name the task. Where frames pile up, because a function prints faster
 * than the server logs, the text goes to the real stdout and stderr and the function waits until it is taken: nothing
 * is lost, and nothing grows without end.
 */
export function capturePrints(send: SendPrint): void {
  for (const [output, fd, stream] of [
    [process.stdout, 1, Stream.STREAM_STDOUT],
    [process.stderr, 2, Stream.STREAM_STDERR],
  ] as const) {
    output.write = ((chunk: string | Uint8Array, ...rest: unknown[]): boolean => {
      const [encoding, callback] = typeof rest[0] === 'function' ? [undefined, rest[0]] : rest
      const bytes = typeof chunk === 'string' ? Buffer.from(chunk, encoding as BufferEncoding) : Buffer.from(chunk)
      if (!send(stream, bytes.toString())) writeAll(fd, bytes)
      if (typeof callback === 'function') queueMicrotask(() => callback())
      return true
    }) as typeof output.write
  }
}

/** The server logs a piece in one go, and everybody waits for it meanwhile. */
const PIECE_LENGTH = 16 * 1024

/** In order, none of them torn inside a character. */
export function* pieces(text: string): Generator<string> {
  for (let at = 0; at < text.length; ) {
    const end = at + PIECE_LENGTH
    const isTorn = (text.codePointAt(end - 1) ?? 0) > 0xffff
    const piece = text.slice(at, isTorn ? end + 1 : end)
    yield piece
    at += piece.length
  }
}

const clock = new Int32Array(new SharedArrayBuffer(4))

/** Writes and waits: the pipes do not block by themselves, since Node has opened them. */
function writeAll(fd: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) {
    try {
      at += writeSync(fd, bytes, at)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') return
      Atomics.wait(clock, 0, 0, 1)
    }
  }
}
