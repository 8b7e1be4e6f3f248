import { type Log, Stream } from '../../proto/gen/farpool/worker/v1/worker.js'
import { type Line, LineSplitter } from './lines.js'

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
