import { write, writeSync } from 'node:fs'

/** The most text that waits for a slow reader. Further text is dropped: the log must not fill the server's memory. */
const MAX_BACKLOG_BYTES = 64 * 1024 * 1024

/** The most that one write passes to the system. */
const WRITE_BYTES = 64 * 1024

/** The time before a write to a full pipe is tried again. Node has no event for a file descriptor that has room again. */
const RETRY_MS = 5

/** The longest time that the exit of the process waits for a slow reader. */
const EXIT_MS = 1_000

/**
 * Writes the log to a file descriptor, in order. Nothing waits for the reader at the other end, neither the event loop nor
 * the exit of the process, whether the reader is slow, has stopped or has gone. Text that cannot be written (no reader, a
 * full disk) is dropped. Make one per process.
 */
export class LogSink {
  /** The bytes that are being written. */
  #current = Buffer.alloc(0)
  /** The text that follows them. */
  #next = ''
  /** `paused`: the pipe was full, and a timer will try again. */
  #state: 'idle' | 'writing' | 'paused' = 'idle'
  #whenWritten: (() => void)[] = []

  constructor(private readonly fd: number) {
    process.on('exit', () => this.#exit())
  }

  /** The amount of unwritten text, about in bytes. */
  get backlog(): number {
    return this.#current.length + this.#next.length
  }

  write(text: string): void {
    if (this.backlog + text.length > MAX_BACKLOG_BYTES) return
    this.#next += text
    if (this.#state === 'idle') this.#write()
  }

  /** Resolves when the backlog has been written or dropped. */
  written(): Promise<void> {
    return new Promise((resolve) => {
      if (this.backlog === 0) resolve()
      else this.#whenWritten.push(resolve)
    })
  }

  #write(): void {
    if (this.#fill() === 0) return this.#becomeIdle()
    this.#state = 'writing'
    write(this.fd, this.#current, 0, Math.min(WRITE_BYTES, this.#current.length), null, (error, written) => {
      if (!error) {
        this.#current = this.#current.subarray(written)
        this.#write()
      } else if (isFull(error)) {
        this.#state = 'paused'
        setTimeout(() => this.#write(), RETRY_MS).unref()
      } else this.#becomeIdle()
    })
  }

  /** Moves the next text into an empty `#current`. Returns the number of bytes there. */
  #fill(): number {
    if (this.#current.length === 0) {
      this.#current = Buffer.from(this.#next)
      this.#next = ''
    }
    return this.#current.length
  }

  /** After the last byte, or after an error: drops the backlog. The next text starts a new write. */
  #becomeIdle(): void {
    this.#state = 'idle'
    this.#current = Buffer.alloc(0)
    this.#next = ''
    for (const resolve of this.#whenWritten.splice(0)) resolve()
  }

  /** Writes the backlog synchronously for at most EXIT_MS. A write that is under way finishes in its own thread. */
  #exit(): void {
    if (this.#state === 'writing') this.#current = this.#current.subarray(WRITE_BYTES)
    const clock = new Int32Array(new SharedArrayBuffer(4))
    for (const end = performance.now() + EXIT_MS; this.#fill() > 0 && performance.now() < end; ) {
      try {
        this.#current = this.#current.subarray(writeSync(this.fd, this.#current))
      } catch (error) {
        if (!isFull(error)) return
        // The only way to sleep in an exit handler.
        Atomics.wait(clock, 0, 0, RETRY_MS)
      }
    }
  }
}

const isFull = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === 'EAGAIN'
