import { type Log, Stream } from '../../proto/gen/farpool/worker/v1/worker.js'

/** A line that a worker printed, and the task that printed it (0 where none was running). */
export interface Line {
  readonly stream: 'stdout' | 'stderr'
  readonly task: number
  readonly text: string
}

/** A longer line is handed on in pieces, so that one that never ends takes no memory. */
const MAX_LINE = 16 * 1024

/** Cuts text into lines as it comes in pieces. A change of the task ends a line. */
export class LineSplitter {
  #rest = ''
  #task = 0

  constructor(private readonly stream: Line['stream']) {}

  push(text: string, task: number): Line[] {
    const lines = task === this.#task ? [] : this.flush()
    this.#task = task
    const pieces = (this.#rest + text).split('\n')
    this.#rest = pieces.pop() ?? ''
    for (const piece of pieces) lines.push(...this.#cut(piece))
    if (this.#rest.length > MAX_LINE) {
      const cut = this.#cut(this.#rest)
      this.#rest = cut.pop()?.text ?? ''
      lines.push(...cut)
    }
    return lines
  }

  /** The line that has not been ended. */
  flush(): Line[] {
    const rest = this.#rest
    this.#rest = ''
    return rest === '' ? [] : this.#cut(rest)
  }

  #cut(line: string): Line[] {
    const pieces: Line[] = []
    for (let at = 0; at === 0 || at < line.length; at += MAX_LINE) {
      pieces.push({ stream: this.stream, task: this.#task, text: line.slice(at, at + MAX_LINE).replace(/\r$/, '') })
    }
    return pieces
  }
}

/**
 * What a worker prints, on its way to the log: in Log frames, which name their task, and past them (native code, a crash
 * report, a function that prints faster than frames are read). Where the log is full, nothing more is read from the
 * worker for a while, and it has to wait.
 */
export class Prints {
  /** The task whose prints are being read from the pipes. */
  task = 0
  #held = false
  #wasHeld = false
  /** The worker has exited: it is read to its end. */
  #released = false
  #whenResumed: (() => void)[] = []
  readonly #framed = { stdout: new LineSplitter('stdout'), stderr: new LineSplitter('stderr') }

  constructor(
    private readonly streams: readonly NodeJS.ReadableStream[],
    /** A promise: whoever logs has enough for now, and reads on when it resolves. */
    private readonly printed: (lines: readonly Line[]) => Promise<void> | undefined,
  ) {}

  /** Nothing is being read from the worker. */
  get held(): boolean {
    return this.#held
  }

  /** Whether it has been held since this was asked last. */
  takeWasHeld(): boolean {
    const was = this.#wasHeld
    this.#wasHeld = this.#held
    return was
  }

  /** Calls back when it is read on; only while it is held. */
  whenResumed(listener: () => void): void {
    this.#whenResumed.push(listener)
  }

  /** Reads a pipe of the worker. */
  read(readable: NodeJS.ReadableStream, stream: 'stdout' | 'stderr'): void {
    const splitter = new LineSplitter(stream)
    readable.setEncoding('utf8')
    readable.on('data', (text: string) => this.print(splitter.push(text, this.task)))
    readable.on('error', () => {})
    readable.on('close', () => this.print(splitter.flush()))
  }

  push({ stream, text, task }: Log): void {
    this.print(this.#framed[stream === Stream.STREAM_STDERR ? 'stderr' : 'stdout'].push(text, task))
  }

  /** Lines that have not been ended. */
  flush(): void {
    for (const splitter of Object.values(this.#framed)) this.print(splitter.flush())
  }

  print(lines: readonly Line[]): void {
    const hold = lines.length > 0 ? this.printed(lines) : undefined
    if (!hold || this.#released || this.#held) return
    this.#held = true
    this.#wasHeld = true
    for (const stream of this.streams) stream.pause()
    void hold.then(() => this.#resume())
  }

  /** From here on nothing holds it: its exit is told behind its last word. */
  release(): void {
    this.#released = true
    this.#resume()
  }

  #resume(): void {
    if (!this.#held) return
    this.#held = false
    for (const stream of this.streams) stream.resume()
    for (const listener of this.#whenResumed.splice(0)) listener()
  }
}
