import { type Log, Stream } from '../../proto/gen/farpool/worker/v1/worker.js'

/** A line that a worker printed. */
export interface OutputLine {
  readonly stream: 'stdout' | 'stderr'
  /** The task that printed it; 0 if none was running. */
  readonly task: number
  readonly text: string
}

/** Longer lines are passed on in pieces, so that a line without end takes no memory. */
const MAX_LINE = 16 * 1024

/** Cuts text into lines as it arrives. A change of task ends a line. */
export class LineSplitter {
  #rest = ''
  #task = 0

  constructor(private readonly stream: OutputLine['stream']) {}

  /** A line has begun and not ended. */
  get hasRest(): boolean {
    return this.#rest !== ''
  }

  push(text: string, task: number): OutputLine[] {
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

  /** Ends the line that has begun. */
  flush(): OutputLine[] {
    const rest = this.#rest
    this.#rest = ''
    return rest === '' ? [] : this.#cut(rest)
  }

  #cut(line: string): OutputLine[] {
    const pieces: OutputLine[] = []
    for (let at = 0; at === 0 || at < line.length; at += MAX_LINE) {
      pieces.push({ stream: this.stream, task: this.#task, text: line.slice(at, at + MAX_LINE).replace(/\r$/, '') })
    }
    return pieces
  }
}

/**
 * What a worker prints, on its way to the pool's output sink. Most of it comes in Log reports, which name their task.
 * The rest comes through the pipes: native code, a crash report, a function that prints faster than reports are read.
 * If the sink is full, nothing more is read from this worker until it has room, so the worker has to wait.
 */
export class WorkerOutput {
  /** The task that text from the pipes belongs to. */
  task = 0
  /** Nothing is being read from the worker, because the sink is full. */
  isPaused = false
  /** It has been paused since the current task began. The handle resets it. */
  wasPaused = false
  /** A line from Log reports has begun and not ended. */
  hasOpenLine = false
  /** The worker has exited: the rest is read without a pause. */
  #hasExited = false
  #whenResumed: (() => void)[] = []
  readonly #reported = { stdout: new LineSplitter('stdout'), stderr: new LineSplitter('stderr') }

  constructor(
    /** Every stream of the worker. */
    private readonly streams: readonly NodeJS.ReadableStream[],
    /** Takes lines. If it returns a promise, it is full until that resolves. */
    private readonly sink: (lines: readonly OutputLine[]) => Promise<void> | undefined,
  ) {}

  /** Calls back once when reading goes on. Only while it is paused. */
  whenResumed(listener: () => void): void {
    this.#whenResumed.push(listener)
  }

  /** Reads one of the worker's pipes. */
  readPipe(readable: NodeJS.ReadableStream, stream: 'stdout' | 'stderr'): void {
    const splitter = new LineSplitter(stream)
    readable.setEncoding('utf8')
    readable.on('data', (text: string) => this.#print(splitter.push(text, this.task)))
    readable.on('error', () => {})
    readable.on('close', () => this.#print(splitter.flush()))
  }

  /** Takes a Log report. */
  report({ stream, text, task }: Log): void {
    const { stdout, stderr } = this.#reported
    this.#print((stream === Stream.STREAM_STDERR ? stderr : stdout).push(text, task))
    this.hasOpenLine = stdout.hasRest || stderr.hasRest
  }

  /** Ends the lines that have begun in Log reports. */
  endLines(): void {
    for (const splitter of Object.values(this.#reported)) this.#print(splitter.flush())
    this.hasOpenLine = false
  }

  /** The worker has exited: nothing pauses it any more, so that its exit comes after its last line. */
  release(): void {
    this.#hasExited = true
    this.#resume()
  }

  #print(lines: readonly OutputLine[]): void {
    const full = lines.length > 0 ? this.sink(lines) : undefined
    if (!full || this.#hasExited || this.isPaused) return
    this.isPaused = true
    this.wasPaused = true
    for (const stream of this.streams) stream.pause()
    void full.then(() => this.#resume())
  }

  #resume(): void {
    if (!this.isPaused) return
    this.isPaused = false
    for (const stream of this.streams) stream.resume()
    for (const listener of this.#whenResumed.splice(0)) listener()
  }
}
