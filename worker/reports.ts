import { writeSync, writevSync } from 'node:fs'
import type { Socket } from 'node:net'
import { type FromWorkerFrame, writeFromWorker } from '../wire/framing/frames.js'
import { ProtoWriter } from '../wire/framing/protobuf.js'

/**
 * What the worker says. A frame is in the socket before `send` returns, wherever the socket takes it at once: a worker
 * that dies in its next task has then told what became of the one before.
 */
export class Outbox {
  readonly #writer = new ProtoWriter()
  #sent: Promise<void> | undefined

  constructor(
    private readonly socket: Socket,
    private readonly fd: number,
  ) {}

  /** Bytes that the socket has not taken yet. */
  get backlog(): number {
    return this.socket.writableLength
  }

  /** Resolves when the socket has taken all; undefined where it has. */
  get sent(): Promise<void> | undefined {
    return this.#sent
  }

  send(frame: FromWorkerFrame): void {
    this.#writer.reset()
    writeFromWorker(this.#writer, frame)
    const views = this.#writer.views()
    const written = this.#sent === undefined ? this.#write(views) : 0
    if (written === this.#writer.length) return
    const rest = Buffer.concat(views).subarray(written)
    const sent = new Promise<void>((resolve) => this.socket.write(rest, () => resolve()))
    this.#sent = sent
    void sent.then(() => {
      if (this.#sent === sent) this.#sent = undefined
    })
  }

  /** How much the socket takes now. */
  #write(views: readonly Uint8Array[]): number {
    // A named pipe of Windows cannot be written in this way.
    if (process.platform === 'win32') return 0
    try {
      const [first] = views
      return views.length === 1 && first ? writeSync(this.fd, first) : writevSync(this.fd, views)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return 0
      // The server is gone.
      return process.exit(1)
    }
  }
}
