import { type Done, Stream } from '../../proto/gen/farpool/worker/v1/worker.js'
import { asFailure, Failure, statusToFailure } from '../../wire/failure.js'
import {
  decodeFromWorker,
  FrameReader,
  type FromWorkerFrame,
  type ToWorkerFrame,
  writeToWorker,
} from '../../wire/frame.js'
import { STOP_MS } from '../../wire/limits.js'
import { ProtoWriter } from '../../wire/proto-writer.js'
import { type Line, LineSplitter } from './lines.js'
import { outcomeOf, runsOf } from './messages.js'
import { killWorker, type WorkerProcess } from './spawn.js'
import type { WorkerExit } from './state.js'
import type { Outcome, Task } from './task.js'

/** What Node reads from a socket at once. */
const FULL_PIECE_BYTES = 64 * 1024

/** What a function can be called by, as the worker that loaded it says. */
export interface FunctionInfo {
  readonly name: string
  readonly parameters: number
  readonly module: string
}

export interface WorkerInit {
  /** Absolute paths. */
  readonly modules: readonly string[]
  /** Empty for none. */
  readonly initializer: string
  readonly initargs: readonly Uint8Array[]
  readonly stacks: boolean
}

/** What a worker tells its pool. */
export interface WorkerEvents {
  ready(functions: readonly FunctionInfo[], runtime: string): void
  initFailed(failure: Failure): void
  started(task: number): void
  done(task: number, outcome: Outcome, ranMs: number): void
  returned(tasks: readonly number[]): void
  /** A promise: whoever logs has enough for now, and reads on when it resolves. */
  printed(line: Line): Promise<void> | undefined
  exited(exit: WorkerExit): void
}

/**
 * One worker process and its conversation; the pool's scheduler knows what it works on.
 *   running   takes frames
 *   ending    has been told to stop, or is being killed; `timer` makes sure that it ends
 *   dead      has exited and its last frame has been read
 */
type State =
  | { kind: 'running'; grace: NodeJS.Timeout | undefined }
  | { kind: 'ending'; timer: NodeJS.Timeout | undefined }
  | { kind: 'dead' }

export class WorkerHandle {
  readonly #process: WorkerProcess
  #state: State = { kind: 'running', grace: undefined }
  #exit: WorkerExit | undefined
  #framesEnded = false
  /** Frames that leave with the next flush. */
  readonly #outgoing = new ProtoWriter()
  /** How much came with the last read. */
  #lastPiece = 0
  #isReading = false
  /** Its output is not being read: the log is full. */
  #held = false
  /** What functions print, as Log frames bring it. */
  readonly #printed = { stdout: new LineSplitter('stdout'), stderr: new LineSplitter('stderr') }
  /** The task whose prints are being read from the pipes; frames name their task themselves. */
  #task = 0

  constructor(
    process: WorkerProcess,
    init: WorkerInit,
    private readonly graceMs: number,
    private readonly events: WorkerEvents,
  ) {
    this.#process = process
    const { child, frames, stdout, stderr } = this.#process
    const reader = new FrameReader((frame) => this.#receive(decodeFromWorker(frame)))
    frames.on('data', (bytes: Buffer) => {
      this.#lastPiece = bytes.length
      try {
        reader.push(bytes)
      } catch (error) {
        // A worker that does not keep to the protocol cannot be trusted with another task.
        this.#print([
          { stream: 'stderr', task: 0, text: `malformed frame from the worker: ${asFailure(error).message}` },
        ])
        this.kill()
      }
    })
    // A write to a worker that has just died fails; its exit tells all there is to tell.
    frames.on('error', () => {})
    frames.on('close', () => {
      this.#framesEnded = true
      // Without frames no task can end: a worker that closed them without being told to is of no use.
      if (!this.#exit && this.#state.kind === 'running') this.kill()
      this.#finish()
    })
    this.#readOutput(stdout, 'stdout')
    this.#readOutput(stderr, 'stderr')
    child.on('error', (error) => this.#exited({ pid: 0, exitCode: undefined, signal: undefined, error: error.message }))
    child.on('exit', (code, signal) =>
      this.#exited({ pid: this.pid, exitCode: code ?? undefined, signal: signal ?? undefined }),
    )
    this.#send({ $case: 'init', value: { ...init, modules: [...init.modules], initargs: [...init.initargs] } })
    this.flush()
  }

  get pid(): number {
    return this.#process.child.pid ?? 0
  }

  /** Sends tasks, in few frames: those of one job share one. */
  run(tasks: readonly Task[], beginBy: number): void {
    if (this.#task === 0) this.#task = tasks[0]?.id ?? 0
    for (const run of runsOf(tasks, beginBy)) this.#send({ $case: 'run', value: run })
  }

  /** Fires the function's abort signal; a task that has not begun will not. */
  abort(task: number, reason: string): void {
    if (this.#state.kind === 'running') this.#send({ $case: 'abort', value: { task, reason } })
  }

  /** Without a `done` within the grace, the process is killed. */
  overdue(): void {
    if (this.#state.kind === 'running') this.#state.grace ??= setTimeout(() => this.kill(), this.graceMs)
  }

  /** Writes what has been sent since the last time. */
  flush(): void {
    if (this.#outgoing.length === 0) return
    const pieces = this.#outgoing.takePieces()
    const { frames } = this.#process
    if (!frames.writable) return
    frames.cork()
    for (const piece of pieces) frames.write(piece)
    frames.uncork()
  }

  /**
   * Calls back when everything that the worker had said before this call has been heard. The callback of an immediate
   * comes after sockets have been read; where one gave a full piece, or was not read because the log is full, there may
   * be more, and a whole turn without either has to pass. One caller at a time; a second is not called back.
   */
  afterReading(listener: () => void): void {
    if (this.#isReading) return
    this.#isReading = true
    const look = (isClear: boolean) => {
      this.#lastPiece = 0
      setImmediate(() => {
        if (this.#state.kind === 'dead') return
        const more = this.#held || this.#process.frames.readableLength > 0 || this.#lastPiece >= FULL_PIECE_BYTES
        if (more || !isClear) return look(!more)
        this.#isReading = false
        listener()
      })
    }
    look(true)
  }

  /** Ends the process after what it does now; a process that does not end is killed. */
  stop(): void {
    if (this.#state.kind !== 'running') return
    this.#send({ $case: 'stop', value: {} })
    this.flush()
    this.#endWithin(STOP_MS)
  }

  kill(): void {
    if (this.#state.kind === 'dead') return
    clearTimeout(this.#state.kind === 'running' ? this.#state.grace : this.#state.timer)
    this.#state = { kind: 'ending', timer: undefined }
    killWorker(this.#process.child)
  }

  #endWithin(ms: number): void {
    if (this.#state.kind !== 'running') return
    clearTimeout(this.#state.grace)
    this.#state = { kind: 'ending', timer: setTimeout(() => this.kill(), ms) }
  }

  #send(frame: ToWorkerFrame): void {
    writeToWorker(this.#outgoing, frame)
  }

  #receive(frame: FromWorkerFrame | undefined): void {
    switch (frame?.$case) {
      case 'ready':
        return this.events.ready(frame.value.functions, frame.value.runtime)
      case 'initFailed':
        // It exits by itself, once its last words are out.
        this.#endWithin(STOP_MS)
        return this.events.initFailed(
          frame.value.status
            ? statusToFailure(frame.value.status)
            : new Failure('INTERNAL', 'a worker failed to start'),
        )
      case 'started':
        return this.events.started(frame.value.task)
      case 'done':
        return this.#done(frame.value)
      case 'returned':
        this.#endGrace()
        return this.events.returned(frame.value.tasks)
      case 'log': {
        const { stream, text, task } = frame.value
        const splitter = this.#printed[stream === Stream.STREAM_STDERR ? 'stderr' : 'stdout']
        this.#print(splitter.push(text, task))
        return
      }
      case undefined:
        return
    }
  }

  /** What was overdue is over. */
  #endGrace(): void {
    if (this.#state.kind !== 'running') return
    clearTimeout(this.#state.grace)
    this.#state.grace = undefined
  }

  #done(done: Done): void {
    this.#endGrace()
    this.#flushLogs()
    this.#task = 0
    this.events.done(done.task, outcomeOf(done), done.runMs)
  }

  #exited(exit: WorkerExit): void {
    this.#exit = exit
    this.#release()
    // Nothing more can come from a process that never was.
    if (exit.pid === 0) this.#process.frames.destroy()
    this.#finish()
  }

  /** The exit is told after the last frame: a task whose `done` was on the way has not been lost. */
  #finish(): void {
    if (!this.#exit || !this.#framesEnded || this.#state.kind === 'dead') return
    const expected = this.#state.kind === 'ending'
    clearTimeout(this.#state.kind === 'running' ? this.#state.grace : this.#state.timer)
    this.#state = { kind: 'dead' }
    this.#flushLogs()
    this.events.exited({ ...this.#exit, expected })
  }

  #flushLogs(): void {
    for (const splitter of Object.values(this.#printed)) this.#print(splitter.flush())
  }

  /** Hands lines on. Where the log is full, nothing more is read from the worker for a while, and it has to wait. */
  #print(lines: readonly Line[]): void {
    let hold: Promise<void> | undefined
    for (const line of lines) hold = this.events.printed(line) ?? hold
    // One that has exited is read to its end: its exit is told behind its last word.
    if (!hold || this.#exit || this.#held) return
    this.#held = true
    for (const stream of this.#streams) stream.pause()
    void hold.then(() => this.#release())
  }

  #release(): void {
    if (!this.#held) return
    this.#held = false
    for (const stream of this.#streams) stream.resume()
  }

  get #streams() {
    const { frames, stdout, stderr } = this.#process
    return [frames, stdout, stderr]
  }

  /** What went past the frames: native code, a crash report, a function that prints faster than frames are read. */
  #readOutput(readable: NodeJS.ReadableStream, stream: 'stdout' | 'stderr'): void {
    const splitter = new LineSplitter(stream)
    readable.setEncoding('utf8')
    readable.on('data', (text: string) => {
      this.#print(splitter.push(text, this.#task))
    })
    readable.on('error', () => {})
    readable.on('close', () => {
      this.#print(splitter.flush())
    })
  }
}
