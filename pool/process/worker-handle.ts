import type { Done, Run } from '../../proto/gen/farpool/worker/v1/worker.js'
import { asFailure, Failure, statusToFailure } from '../../wire/failure.js'
import {
  decodeFromWorker,
  FrameReader,
  type FromWorkerFrame,
  type ToWorkerFrame,
  writeToWorker,
} from '../../wire/framing/frames.js'
import { ProtoWriter } from '../../wire/framing/protobuf.js'
import { COMMANDS_PART, REPORTS_PART, SharedFileReader, SharedFileWriter } from '../../wire/framing/shared-file.js'
import type { WorkerExit } from '../scheduler/pool-state.js'
import { failed, type Job, type Outcome, type Task } from '../scheduler/task.js'
import type { ProcessExit, WorkerProcess } from './launcher.js'
import { type OutputLine, WorkerOutput } from './worker-output.js'

/** How long a worker may take to exit after it was told to stop. */
export const STOP_MS = 5_000

/** How long a worker may live after it has closed its reports. One that dies closes them too, a moment before its exit. */
const CLOSED_MS = 1_000

/** Node reads at most this much from a socket at once. A full read means that there may be more. */
const FULL_READ_BYTES = 64 * 1024

/** A function that a worker has loaded, as the worker describes it. */
export interface FunctionInfo {
  readonly name: string
  /** Declared parameters before the first with a default. */
  readonly parameters: number
  /** The path of its module. */
  readonly module: string
  /** From `configure` in the module; 0 and false if it says nothing. */
  readonly retries: number
  readonly runTimeoutMs: number
  readonly neverKilled: boolean
}

/** The first command to a worker. */
export interface WorkerInit {
  /** Absolute paths. */
  readonly modules: readonly string[]
  /** The name of a function; empty for none. */
  readonly initializer: string
  readonly initargs: readonly Uint8Array[]
  /** Whether failures carry the stacks of functions. */
  readonly stacks: boolean
  /** A worker with more resident memory asks to be replaced; 0 for no limit. */
  readonly maxRssBytes: number
  /** A larger result fails in the worker. */
  readonly maxResultBytes: number
}

/** Time limits of a worker, in milliseconds. A worker that exceeds one is killed. */
export interface WorkerTimes {
  /** To load its modules and run its initializer; 0 for no limit. */
  readonly startTimeoutMs: number
  /** To end a task after its abort signal fired. */
  readonly graceMs: number
}

/** What a handle reports to its pool. Each method is called in the order in which the worker reported. */
export interface WorkerListener {
  ready(functions: readonly FunctionInfo[], runtime: string): void
  initFailed(failure: Failure): void
  started(task: number): void
  /** `ranMs`: how long the task kept its worker, in milliseconds. */
  done(task: number, outcome: Outcome, ranMs: number): void
  handedBack(tasks: readonly number[]): void
  progressed(task: number, items: number): void
  /** It has grown beyond maxRssBytes. */
  retire(): void
  /** Returns a promise if the sink is full until that resolves. */
  printed(lines: readonly OutputLine[]): Promise<void> | undefined
  /** Last, and once. */
  exited(exit: WorkerExit): void
}

/**
 *   running  takes commands. `timer` runs while it starts, and while a cancelled task goes on.
 *   ending   was told to stop, or is being killed. `timer` makes sure that it ends.
 *   dead     has exited, and its last report has been read.
 */
type State =
  | { kind: 'running'; timer: NodeJS.Timeout | undefined }
  | { kind: 'ending'; timer: NodeJS.Timeout | undefined }
  | { kind: 'dead' }

/**
 * One worker process and the conversation with it: commands go out, reports come in. It owns the process and its timers.
 * Which task runs where is the scheduler's business.
 */
export class WorkerHandle {
  #state: State = { kind: 'running', timer: undefined }
  #exit: WorkerExit | undefined
  #outputEnded = false
  /** It has reported `ready` or `initFailed`. */
  #hasPrepared = false
  /** Commands that leave with the next flush. */
  readonly #commands = new ProtoWriter()
  /** For large commands. */
  readonly #file: SharedFileWriter | undefined
  /** Bytes of the last read from the worker. */
  #lastRead = 0
  #isDraining = false
  readonly #output: WorkerOutput
  /** When it began its current task, by performance.now(). */
  #busySince = 0
  /** Why the pool killed it, if that was not for the sake of a task. */
  #why: string | undefined
  /** The error that, by its own report, ends it. */
  #uncaught: Failure | undefined

  constructor(
    private readonly process: WorkerProcess,
    init: WorkerInit,
    private readonly times: WorkerTimes,
    private readonly listener: WorkerListener,
  ) {
    const { input, output, stdout, stderr, sharedFile } = process
    this.#file = sharedFile === undefined ? undefined : new SharedFileWriter(sharedFile, COMMANDS_PART)
    const reports = sharedFile === undefined ? undefined : new SharedFileReader(sharedFile, REPORTS_PART)
    this.#output = new WorkerOutput([output, stdout, stderr], (lines) => listener.printed(lines))
    const reader = new FrameReader((frame) => this.#read(frame), reports)
    output.on('data', (bytes: Buffer) => {
      this.#lastRead = bytes.length
      this.#killIfMalformed(() => reader.push(bytes))
    })
    // A write to a worker that has just died fails. Its exit says all there is to say.
    input.on('error', () => {})
    output.on('error', () => {})
    output.on('close', () => {
      input.destroy()
      this.#outputEnded = true
      if (!this.#exit) this.#killIfItLives()
      this.#finish()
    })
    this.#output.readPipe(stdout, 'stdout')
    this.#output.readPipe(stderr, 'stderr')
    void process.exited.then((exit) => this.#exited(exit))
    if (times.startTimeoutMs > 0) {
      this.#state = { kind: 'running', timer: setTimeout(() => this.#startTimedOut(), times.startTimeoutMs).unref() }
    }
    const { modules, initializer, initargs, stacks, maxRssBytes, maxResultBytes } = init
    this.#send({
      $case: 'init',
      value: { modules: [...modules], initializer, initargs: [...initargs], stacks, maxRssBytes, maxResultBytes },
    })
    this.flush()
  }

  get pid(): number {
    return this.process.pid
  }

  /** Nothing is being read from it, because the output sink is full. */
  get isPaused(): boolean {
    return this.#output.isPaused
  }

  /** Sends tasks; consecutive tasks of one job share a command. */
  run(tasks: readonly Task[], beginBy: number): void {
    if (this.#output.task === 0) {
      this.#output.task = tasks[0]?.id ?? 0
      this.#busySince = performance.now()
    }
    for (const run of runCommands(tasks, beginBy)) this.#send({ $case: 'run', value: run })
  }

  /** Fires the abort signal of a task. A task that has not begun will not begin. */
  abort(task: number, reason: string): void {
    if (this.#state.kind === 'running') this.#send({ $case: 'abort', value: { task, reason } })
  }

  /** Kills the process unless it reports `done` within the grace. */
  overdue(): void {
    if (this.#state.kind === 'running') this.#state.timer ??= setTimeout(() => this.kill(), this.times.graceMs).unref()
  }

  /** Writes the commands that were sent since the last flush. */
  flush(): void {
    if (this.#commands.length === 0) return
    const { pieces } = this.#commands.takePieces()
    const { input } = this.process
    if (!input.writable) return
    if (pieces.length === 1) return void input.write(pieces[0])
    input.cork()
    for (const piece of pieces) input.write(piece)
    input.uncork()
  }

  /**
   * Calls back when every report that the worker had written before this call has been read. An immediate runs after
   * sockets have been read. If the last read was a full one, or reading was paused, there may be more, so one whole turn
   * without either must pass. One caller at a time: while one waits, another is not called back.
   */
  afterReading(callback: () => void): void {
    if (this.#isDraining) return
    this.#isDraining = true
    const look = (wasQuiet: boolean) => {
      this.#lastRead = 0
      setImmediate(() => {
        if (this.#state.kind === 'dead') return
        if (this.#output.isPaused) return this.#output.whenResumed(() => look(false))
        const isQuiet = this.process.output.readableLength === 0 && this.#lastRead < FULL_READ_BYTES
        if (!isQuiet || !wasQuiet) return look(isQuiet)
        this.#isDraining = false
        callback()
      })
    }
    look(true)
  }

  /** Lets the process exit after its current task, and kills it if it takes longer than STOP_MS. */
  stop(): void {
    if (this.#state.kind !== 'running') return
    this.#send({ $case: 'stop', value: {} })
    this.flush()
    this.#endWithin(STOP_MS)
  }

  /** @param why completes "it was killed: …", if the pool kills it for another reason than a task. */
  kill(why?: string): void {
    if (this.#state.kind === 'dead') return
    this.#why ??= why
    clearTimeout(this.#state.timer)
    this.#state = { kind: 'ending', timer: undefined }
    this.process.kill()
  }

  /** It has closed its reports. Without them no task can end, so a worker that goes on is of no use. */
  #killIfItLives(): void {
    if (this.#state.kind !== 'running') return
    clearTimeout(this.#state.timer)
    this.#state.timer = setTimeout(() => this.kill('it had closed its reports'), CLOSED_MS).unref()
  }

  #endWithin(ms: number): void {
    if (this.#state.kind !== 'running') return
    clearTimeout(this.#state.timer)
    this.#state = { kind: 'ending', timer: setTimeout(() => this.kill(), ms).unref() }
  }

  #send(frame: ToWorkerFrame): void {
    writeToWorker(this.#commands, frame, this.#file)
  }

  /** A worker that breaks the protocol gets no further task. */
  #killIfMalformed(read: () => void): void {
    try {
      read()
    } catch (error) {
      this.kill(`it sent a malformed frame: ${asFailure(error).message}`)
    }
  }

  /**
   * While the output sink is full, reports wait behind the output. So a task keeps its worker until its output is
   * written, and new tasks go to other workers.
   */
  #read(frame: Uint8Array): void {
    if (this.#output.isPaused) {
      return this.#output.whenResumed(() => this.#killIfMalformed(() => this.#read(frame)))
    }
    this.#receive(decodeFromWorker(frame))
  }

  #receive(report: FromWorkerFrame | undefined): void {
    switch (report?.$case) {
      case 'ready':
        this.#prepared()
        this.#clearTimer()
        return this.listener.ready(report.value.functions, report.value.runtime)
      case 'initFailed':
        this.#prepared()
        // It exits by itself, once its last reports are out.
        this.#endWithin(STOP_MS)
        return this.listener.initFailed(
          report.value.status
            ? statusToFailure(report.value.status)
            : new Failure('INTERNAL', 'a worker failed to start'),
        )
      case 'started':
        return this.listener.started(report.value.task)
      case 'done':
        return this.#done(report.value)
      case 'returned':
        this.#clearTimer()
        return this.listener.handedBack(report.value.tasks)
      case 'progress':
        return this.listener.progressed(report.value.task, report.value.items)
      case 'retire':
        return this.listener.retire()
      case 'log':
        return this.#output.report(report.value)
      case 'uncaught':
        if (report.value.status) this.#uncaught = statusToFailure(report.value.status)
        return
      case undefined:
        return
    }
  }

  /** A worker prepares once: after `ready` it must not report that it cannot work. */
  #prepared(): void {
    if (this.#hasPrepared) throw new Error('it has told before how its preparation ended')
    this.#hasPrepared = true
  }

  /** It has started, or the cancelled task has ended. */
  #clearTimer(): void {
    if (this.#state.kind !== 'running') return
    clearTimeout(this.#state.timer)
    this.#state.timer = undefined
  }

  /** If this process was asleep itself, the worker's reports are read first. */
  #startTimedOut(): void {
    const { startTimeoutMs } = this.times
    const { timer } = this.#state.kind === 'dead' ? {} : this.#state
    this.afterReading(() => {
      if (this.#state.kind !== 'running' || !timer || this.#state.timer !== timer) return
      this.kill(
        `its modules and its initializer did not come to an end in ${startTimeoutMs} ms; a top-level await may never settle, ` +
          'or startTimeoutMs (--start-timeout of farpool serve) is too short',
      )
    })
  }

  #done(done: Done): void {
    this.#clearTimer()
    if (this.#output.hasOpenLine) this.#output.endLines()
    this.#output.task = 0
    const now = performance.now()
    // Output that had to wait for the sink has kept the worker longer than the function ran.
    const ranMs = this.#output.wasPaused ? Math.max(done.runMs, now - this.#busySince) : done.runMs
    this.#output.wasPaused = this.#output.isPaused
    this.#busySince = now
    this.listener.done(done.task, outcomeOf(done), ranMs)
  }

  #exited(exit: ProcessExit): void {
    this.#exit = { ...exit, pid: this.pid, why: this.#why, uncaught: this.#uncaught }
    this.#output.release()
    this.#finish()
  }

  /** The exit is reported after the last report: a task whose `done` was on its way is not lost. */
  #finish(): void {
    if (!this.#exit || !this.#outputEnded || this.#state.kind === 'dead') return
    const wasEnding = this.#state.kind === 'ending'
    clearTimeout(this.#state.timer)
    this.#state = { kind: 'dead' }
    this.process.release()
    this.#output.endLines()
    // If it ran out of memory, or had to be killed, its end was not what the pool had planned.
    const expected = wasEnding && this.#exit.oom === undefined && this.#why === undefined
    this.listener.exited({ ...this.#exit, expected })
  }
}

/** One command for each run of consecutive tasks of the same job. */
function runCommands(tasks: readonly Task[], beginBy: number): Run[] {
  const runs: Run[] = []
  let job: Job | undefined
  for (const task of tasks) {
    if (task.job !== job) runs.push(runCommand(task.job, beginBy))
    job = task.job
    const { id, attempt, args, chunk } = task
    runs.at(-1)?.tasks.push({ task: id, attempt, args: args as Uint8Array[], chunk })
  }
  return runs
}

const runCommand = (job: Job, beginBy: number): Run => ({
  function: job.function,
  args: job.args as Uint8Array[],
  kwargs: job.kwargs,
  spread: job.spread,
  replyKind: job.replyKind,
  failFast: job.failFast,
  allowPartial: job.allowPartial,
  tasks: [],
  beginBy,
})

function outcomeOf(done: Done): Outcome {
  if (done.status) return failed(statusToFailure(done.status))
  if (!done.payload) return failed(new Failure('INTERNAL', 'the worker sent neither a result nor a failure'))
  const failures = done.failures.map(({ item, status }) => ({
    item,
    failure: status ? statusToFailure(status) : new Failure('INTERNAL', 'the worker sent a failure without a status'),
  }))
  return { ok: true, payload: done.payload, failures }
}
