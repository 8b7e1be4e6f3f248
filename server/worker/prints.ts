import { Stream } from '../../proto/gen/farpool/worker/v1/worker.js'

/** Sends what was printed to the server; false where too much of it still waits to be read there. */
export type SendPrint = (stream: Stream, text: string) => boolean

/**
 * Sends what functions print as frames, which name the task. Where frames pile up, because a function prints faster
 * than they can leave, the text goes to the real stdout and stderr: those pipes block, so nothing grows without end.
 */
export function capturePrints(send: SendPrint): void {
  for (const [output, stream] of [
    [process.stdout, Stream.STREAM_STDOUT],
    [process.stderr, Stream.STREAM_STDERR],
  ] as const) {
    const write = output.write.bind(output)
    output.write = ((chunk: string | Uint8Array, ...rest: unknown[]): boolean => {
      const [encoding, callback] = typeof rest[0] === 'function' ? [undefined, rest[0]] : rest
      const text =
        typeof chunk === 'string'
          ? Buffer.from(chunk, encoding as BufferEncoding).toString()
          : Buffer.from(chunk).toString()
      if (!send(stream, text)) return write(chunk)
      if (typeof callback === 'function') queueMicrotask(() => callback())
      return true
    }) as typeof output.write
  }
}
