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
import type { FunctionInfo } from '../function-table.js'
import type { WorkerExit } from '../scheduler/pool-state.js'
import { failed, type Job, type Outcome, type Task } from '../scheduler/task.js'
import { killWorker, type WorkerProcess } from './launcher.js'
import { type Line, Prints } from './worker-output.js'

/** How long a worker may take to exit after it was told to stop. */
export const STOP_MS = 5_000

/** Messages for tasks, in order: those of one job share one. */
export function runsOf(tasks: readonly Task[], beginBy: number): Run[] {
  const runs: Run[] = []
  let job: Job | undefined
  for (const task of tasks) {
    if (task.job !== job) runs.push(runOf(task.job, beginBy))
    job = task.job
    const { id, attempt, ownArgs, chunk } = task
    runs.at(-1)?.tasks.push({ task: id, attempt, args: ownArgs as Uint8Array[], chunk })
  }
  return runs
}

const runOf = (job: Job, beginBy: number): Run => ({
  function: job.function,
  args: job.args as Uint8Array[],
  kwargs: job.kwargs,
  spread: job.spread,
  replyKind: job.replyKind,
  failFast: job.failFast,
  tasks: [],
  beginBy,
})

/** What a worker says that became of a task. */
export function outcomeOf(done: Done): Outcome {
  if (done.status) return failed(statusToFailure(done.status))
  if (!done.payload) return failed(new Failure('INTERNAL', 'the worker sent neither a result nor a failure'))
  const failures = done.failures.map(({ item, status }) => ({
    item,
    failure: status ? statusToFailure(status) : new Failure('INTERNAL', 'the worker sent a failure without a status'),
  }))
  return { ok: true, payload: done.payload, failures }
}

export interface WorkerInit {
  /** Absolute paths. */
  readonly modules: readonly string[]
  /** Empty for none. */
  readonly initializer: string
  readonly initargs: readonly Uint8Array[]
  readonly stacks: boolean
  /** With more memory than this a worker asks to be replaced; 0 for any. */
  readonly maxRssBytes: number
  /** A larger result fails in the worker. */
  readonly maxResultBytes: number
}

/** How long a worker may take, in milliseconds; then its process is killed. */
export interface WorkerTimes {
  /** To load its modules and run its initializer; 0 for any time. */
  readonly startTimeoutMs: number
  /** To end a task that was aborted. */
  readonly graceMs: number
}

/** What a worker tells its pool. */
export interface WorkerEvents {
  ready(functions: readonly FunctionInfo[], runtime: string): void
  initFailed(failure: Failure): void
  started(task: number): void
  done(task: number, outcome: Outcome, ranMs: number): void
  returned(tasks: readonly number[]): void
  progressed(task: number, items: number): void
  /** It has grown beyond maxRssBytes. */
  retire(rssBytes: number): void
  /** A promise: whoever logs has enough for now, and reads on when it resolves. */
  printed(lines: readonly Line[]): Promise<void> | undefined
  exited(exit: WorkerExit): void
}

/** What Node reads from a socket at once. */
const FULL_PIECE_BYTES = 64 * 1024

/**
 * One worker process and its conversation; the pool's scheduler knows what it works on.
 *   running   takes frames; `timer` runs while it starts, and while a task that was aborted goes on
 *   ending    has been told to stop, or is being killed; `timer` makes sure that it ends
 *   dead      has exited and its last frame has been read
 */
type State =
  | { kind: 'running'; timer: NodeJS.Timeout | undefined }
  | { kind: 'ending'; timer: NodeJS.Timeout | undefined }
  | { kind: 'dead' }

export class WorkerHandle {
  readonly #process: WorkerProcess
  #state: State = { kind: 'running', timer: undefined }
  #exit: WorkerExit | undefined
  #framesEnded = false
  #isPrepared = false
  /** Frames that leave with the next flush. */
  readonly #outgoing = new ProtoWriter()
  /** How much came with the last read. */
  #lastPiece = 0
  #isReading = false
  readonly #prints: Prints
  /** Since when it has been with its task, by performance.now(). */
  #busySince = 0
  /** Why it was killed, where it was not for a task. */
  #why: string | undefined

  constructor(
    process: WorkerProcess,
    init: WorkerInit,
    private readonly times: WorkerTimes,
    private readonly events: WorkerEvents,
  ) {
    this.#process = process
    const { child, orders, frames, stdout, stderr } = this.#process
    this.#prints = new Prints([frames, stdout, stderr], (lines) => this.events.printed(lines))
    const reader = new FrameReader((frame) => this.#hear(frame))
    frames.on('data', (bytes: Buffer) => {
      this.#lastPiece = bytes.length
      this.#trust(() => reader.push(bytes))
    })
    // A write to a worker that has just died fails; its exit tells all there is to tell.
    orders.on('error', () => {})
    frames.on('error', () => {})
    frames.on('close', () => {
      orders.destroy()
      this.#framesEnded = true
      // Without frames no task can end: a worker that closed them without being told to is of no use.
      if (!this.#exit && this.#state.kind === 'running') this.kill()
      this.#finish()
    })
    this.#prints.read(stdout, 'stdout')
    this.#prints.read(stderr, 'stderr')
    // That a signal cannot be sent, say: of its end its exit tells.
    child.on('error', () => {})
    child.on('exit', (code, signal) =>
      this.#exited({ pid: this.pid, exitCode: code ?? undefined, signal: signal ?? undefined }),
    )
    if (times.startTimeoutMs > 0) {
      this.#state = { kind: 'running', timer: setTimeout(() => this.#late(), times.startTimeoutMs) }
    }
    const { modules, initializer, initargs, stacks, maxRssBytes, maxResultBytes } = init
    this.#send({
      $case: 'init',
      value: { modules: [...modules], initializer, initargs: [...initargs], stacks, maxRssBytes, maxResultBytes },
    })
    this.flush()
  }

  get pid(): number {
    return this.#process.child.pid ?? 0
  }

  /** Nothing is being read from it: the log is full. */
  get held(): boolean {
    return this.#prints.held
  }

  /** Sends tasks, in few frames: those of one job share one. */
  run(tasks: readonly Task[], beginBy: number): void {
    if (this.#prints.task === 0) {
      this.#prints.task = tasks[0]?.id ?? 0
      this.#busySince = performance.now()
    }
    for (const run of runsOf(tasks, beginBy)) this.#send({ $case: 'run', value: run })
  }

  /** Fires the function's abort signal; a task that has not begun will not. */
  abort(task: number, reason: string): void {
    if (this.#state.kind === 'running') this.#send({ $case: 'abort', value: { task, reason } })
  }

  /** Without a `done` within the grace, the process is killed. */
  overdue(): void {
    if (this.#state.kind === 'running') this.#state.timer ??= setTimeout(() => this.kill(), this.times.graceMs)
  }

  /** Writes what has been sent since the last time. */
  flush(): void {
    if (this.#outgoing.length === 0) return
    const pieces = this.#outgoing.takePieces()
    const { orders } = this.#process
    if (!orders.writable) return
    orders.cork()
    for (const piece of pieces) orders.write(piece)
    orders.uncork()
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
        if (this.#prints.held) return this.#prints.whenResumed(() => look(false))
        const more = this.#process.frames.readableLength > 0 || this.#lastPiece >= FULL_PIECE_BYTES
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

  /** `why`: where it is for no task's sake, as the end of "it was killed: …". */
  kill(why?: string): void {
    if (this.#state.kind === 'dead') return
    this.#why ??= why
    clearTimeout(this.#state.timer)
    this.#state = { kind: 'ending', timer: undefined }
    killWorker(this.#process.child)
  }

  #endWithin(ms: number): void {
    if (this.#state.kind !== 'running') return
    clearTimeout(this.#state.timer)
    this.#state = { kind: 'ending', timer: setTimeout(() => this.kill(), ms) }
  }

  #send(frame: ToWorkerFrame): void {
    writeToWorker(this.#outgoing, frame)
  }

  /** A worker that does not keep to the protocol cannot be trusted with another task. */
  #trust(hear: () => void): void {
    try {
      hear()
    } catch (error) {
      this.kill(`it sent a malformed frame: ${asFailure(error).message}`)
    }
  }

  /**
   * What it says behind prints that the log has no room for is heard behind them: a task has its worker until its prints
   * are out, and what comes meanwhile goes to another worker.
   */
  #hear(frame: Uint8Array): void {
    if (this.#prints.held) return this.#prints.whenResumed(() => this.#trust(() => this.#hear(frame)))
    this.#receive(decodeFromWorker(frame))
  }

  #receive(frame: FromWorkerFrame | undefined): void {
    switch (frame?.$case) {
      case 'ready':
        this.#prepared()
        this.#endTimer()
        return this.events.ready(frame.value.functions, frame.value.runtime)
      case 'initFailed':
        this.#prepared()
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
        this.#endTimer()
        return this.events.returned(frame.value.tasks)
      case 'progress':
        return this.events.progressed(frame.value.task, frame.value.items)
      case 'retire':
        return this.events.retire(frame.value.rssBytes)
      case 'log':
        return this.#prints.push(frame.value)
      case undefined:
        return
    }
  }

  /** Said once: a worker that has been ready must not say that it cannot work. */
  #prepared(): void {
    if (this.#isPrepared) throw new Error('it has told before how its preparation ended')
    this.#isPrepared = true
  }

  /** It has started, or what was overdue is over. */
  #endTimer(): void {
    if (this.#state.kind !== 'running') return
    clearTimeout(this.#state.timer)
    this.#state.timer = undefined
  }

  /** Its time to start is over. A server that was asleep itself first hears what was said meanwhile. */
  #late(): void {
    const { startTimeoutMs } = this.times
    const { timer } = this.#state.kind === 'dead' ? {} : this.#state
    this.afterReading(() => {
      if (this.#state.kind === 'running' && timer && this.#state.timer === timer)
        this.kill(`its modules and its initializer did not come to an end in ${startTimeoutMs} ms (--start-timeout)`)
    })
  }

  #done(done: Done): void {
    this.#endTimer()
    this.#prints.flush()
    this.#prints.task = 0
    const now = performance.now()
    // Prints that were held have kept its worker longer than it ran.
    const ranMs = this.#prints.takeWasHeld() ? Math.max(done.runMs, now - this.#busySince) : done.runMs
    this.#busySince = now
    this.events.done(done.task, outcomeOf(done), ranMs)
  }

  #exited(exit: WorkerExit): void {
    this.#exit = { ...exit, oom: this.#process.oom(exit.signal), why: this.#why }
    this.#prints.release()
    this.#finish()
  }

  /** The exit is told after the last frame: a task whose `done` was on the way has not been lost. */
  #finish(): void {
    if (!this.#exit || !this.#framesEnded || this.#state.kind === 'dead') return
    const expected = this.#state.kind === 'ending'
    clearTimeout(this.#state.timer)
    this.#state = { kind: 'dead' }
    this.#prints.flush()
    // What has taken it along was not its pool.
    this.events.exited({ ...this.#exit, expected: expected && this.#exit.oom === undefined && this.#why === undefined })
  }
}
