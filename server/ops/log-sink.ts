import { write, writeSync } from 'node:fs'

/** What may wait for a reader that is slow; what is more is dropped: a log must not stop or fill a server. */
const MAX_BACKLOG_BYTES = 64 * 1024 * 1024

/** What goes out at once. */
const PIECE_BYTES = 64 * 1024

/** A pipe that is full is tried again after so long: Node has no event for a file descriptor that takes more. */
const AGAIN_MS = 5

/** A process that exits waits so long for a reader that is slow. */
const EXIT_MS = 1_000

/**
 * Text on its way to standard error, in order. Nobody waits for its reader: not the event loop, and not the exit of the
 * process, whether the reader is slow, has stopped, or has gone. What cannot be written (nobody reads, the disk is full) is
 * dropped. One per process.
 */
export class Sink {
  /** What is being written, and what comes behind it. */
  #piece = Buffer.alloc(0)
  #next = ''
  /** `paused`: the pipe was full. */
  #state: 'idle' | 'writing' | 'paused' = 'idle'
  #whenWritten: (() => void)[] = []

  constructor(private readonly fd: number) {
    process.on('exit', () => this.#exit())
  }

  /** How much has not been written. */
  get backlog(): number {
    return this.#piece.length + this.#next.length
  }

  write(text: string): void {
    if (this.backlog + text.length > MAX_BACKLOG_BYTES) return
    this.#next += text
    if (this.#state === 'idle') this.#write()
  }

  /** Resolves when there is no backlog any more. */
  written(): Promise<void> {
    return new Promise((resolve) => {
      if (this.backlog === 0) resolve()
      else this.#whenWritten.push(resolve)
    })
  }

  #write(): void {
    if (this.#take() === 0) return this.#rest()
    this.#state = 'writing'
    write(this.fd, this.#piece, 0, Math.min(PIECE_BYTES, this.#piece.length), null, (error, written) => {
      if (!error) {
        this.#piece = this.#piece.subarray(written)
        this.#write()
      } else if (isFull(error)) {
        this.#state = 'paused'
        setTimeout(() => this.#write(), AGAIN_MS).unref()
      } else this.#rest()
    })
  }

  /** How much there is to write now. */
  #take(): number {
    if (this.#piece.length === 0) {
      this.#piece = Buffer.from(this.#next)
      this.#next = ''
    }
    return this.#piece.length
  }

  /** Nothing is left; the next text is tried again. */
  #rest(): void {
    this.#state = 'idle'
    this.#piece = Buffer.alloc(0)
    this.#next = ''
    for (const resolve of this.#whenWritten.splice(0)) resolve()
  }

  /** The rest, as far as the reader takes it in time. What is being written in this moment goes out by itself. */
  #exit(): void {
    if (this.#state === 'writing') this.#piece = this.#piece.subarray(PIECE_BYTES)
    const clock = new Int32Array(new SharedArrayBuffer(4))
    for (const end = performance.now() + EXIT_MS; this.#take() > 0 && performance.now() < end; ) {
      try {
        this.#piece = this.#piece.subarray(writeSync(this.fd, this.#piece))
      } catch (error) {
        if (!isFull(error)) return
        Atomics.wait(clock, 0, 0, AGAIN_MS)
      }
    }
  }
}

const isFull = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === 'EAGAIN'
