import { writeSync } from 'node:fs'
import { Stream } from '../proto/gen/farpool/worker/v1/worker.js'

/** Reports captured text to the server. Returns false, and reports nothing, if too many reports wait for the socket. */
export type SendOutput = (stream: Stream, text: string) => boolean

/**
 * Captures what functions print and sends it as Log reports, which name the task. If a function prints faster than the
 * server logs, the text goes to the real stdout and stderr instead, and the function waits until the pipe has taken it. So
 * nothing is lost and no queue grows without limit.
 */
export function captureOutput(send: SendOutput): void {
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

/** In UTF-16 units. The server logs a piece without a pause, so it must be short. */
const PIECE_LENGTH = 16 * 1024

/** The pieces of a text, in order. No surrogate pair is split. */
export function* pieces(text: string): Generator<string> {
  for (let at = 0; at < text.length; ) {
    const end = at + PIECE_LENGTH
    const splitsPair = (text.codePointAt(end - 1) ?? 0) > 0xffff
    const piece = text.slice(at, splitsPair ? end + 1 : end)
    yield piece
    at += piece.length
  }
}

/** Atomics.wait on it is a sleep: nothing ever notifies it. */
const sleeper = new Int32Array(new SharedArrayBuffer(4))

/** Writes all bytes before it returns. Node has made the pipe non-blocking, so a full one means EAGAIN. */
function writeAll(fd: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) {
    try {
      at += writeSync(fd, bytes, at)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') return
      Atomics.wait(sleeper, 0, 0, 1)
    }
  }
}
