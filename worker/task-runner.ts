/**
 * The run queue of a worker: the tasks that the server has sent, executed one after another.
 *
 *     worker-main ── add, abort ──▶ TaskRunner ──▶ invoke ──▶ the function
 *     worker-main ◀── Reports ──────────┘
 *
 * R1  One task runs at a time, in the order of arrival.
 * R2  Each task is answered once: Done if the worker has dealt with it, Returned if it was too late to begin it.
 * R3  A function is called only after the socket has taken the report that its task begins. A worker that dies in a task
 *     has therefore told the server which one it was. That report is Started, or Done of the previous task if the worker
 *     already had the next one.
 * R4  The worker reads commands at least every LISTEN_EVERY_MS between tasks.
 */

import type { Done, Init, Run, Task as TaskMessage } from '../proto/gen/farpool/worker/v1/worker.js'
import { Failure } from '../wire/failure.js'
import { type FromWorkerFrame, monotonic } from '../wire/framing/frames.js'
import { MAX_FRAME_BYTES } from '../wire/protocol.js'
import { current, type Task } from './current-task.js'
import { failedDone, invoke } from './invoke.js'
import type { LoadedFunction } from './load-functions.js'

/** Where the runner sends its reports. worker-main.ts implements it on the socket. */
export interface Reports {
  send(report: FromWorkerFrame): void
  /** Resolves when the socket has taken every report that was sent; undefined if it has already. */
  readonly pending: Promise<void> | undefined
}

/** How long tasks may run one after another before the worker reads commands, in milliseconds. */
const LISTEN_EVERY_MS = 1

/** How often the worker compares its memory with its limit, at most, in milliseconds. */
const RSS_EVERY_MS = 100

/** The largest result that fits into a frame, with room for the other fields of Done. */
const MAX_RESULT_BYTES = MAX_FRAME_BYTES - 64 * 1024

/** A task, and the Run command that brought it. */
interface Entry {
  readonly run: Run
  readonly task: TaskMessage
}

export class TaskRunner {
  #queue: Entry[] = []
  /** The index of the next task in #queue. */
  #next = 0
  #running: RunningTask | undefined
  /** The tasks in #queue that were aborted. */
  readonly #aborted = new Set<number>()
  /** Whether the server has been told that the next task begins (R3). */
  #isAnnounced = false
  #isWorking = false
  #whenIdle: () => void = () => {}
  /** When the memory was last compared with its limit, by performance.now(). */
  #measuredAt = 0
  /** Whether Retire was sent, which happens once. */
  #isRetiring = false
  readonly #onProgress = (task: number, items: number) =>
    this.reports.send({ $case: 'progress', value: { task, items } })

  constructor(
    private readonly functions: ReadonlyMap<string, LoadedFunction>,
    private readonly init: Init,
    private readonly reports: Reports,
  ) {}

  /** The number of the running task; 0 for none. */
  get running(): number {
    return this.#running?.id ?? 0
  }

  /** Resolves when no task is left. */
  idle(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#isWorking) this.#whenIdle = resolve
      else resolve()
    })
  }

  /** Adds the tasks of a Run command. */
  add(run: Run): void {
    for (const task of run.tasks) this.#queue.push({ run, task })
    if (!this.#isWorking) void this.#work()
  }

  /** Fires the signal of a running task. A waiting task will not begin. Other tasks have ended: nothing happens. */
  abort(task: number, reason: string): void {
    if (this.#running?.id === task) this.#running.abort(reason)
    else if (this.#isWorking) this.#aborted.add(task)
  }

  async #work(): Promise<void> {
    this.#isWorking = true
    let listenedAt = performance.now()
    this.#isAnnounced = false
    for (let entry = this.#take(); entry; entry = this.#take()) {
      if (isLate(entry)) {
        this.#returnLate(entry)
        continue
      }
      const now = await this.#execute(entry)
      // R3: Done may announce the next task.
      while (this.reports.pending !== undefined) await this.reports.pending
      if (now - listenedAt < LISTEN_EVERY_MS) continue
      await new Promise(setImmediate)
      listenedAt = performance.now()
    }
    // These had ended before the command to abort them arrived.
    this.#aborted.clear()
    this.#isWorking = false
    this.#whenIdle()
  }

  /** Returns when the task ended, by performance.now(). */
  async #execute({ run, task }: Entry): Promise<number> {
    const beganAt = performance.now()
    const loaded = this.functions.get(run.function)
    const isAborted = this.#aborted.size > 0 && this.#aborted.delete(task.task)
    if (isAborted || !loaded) {
      const failure = loaded
        ? new Failure('CANCELLED', 'the task was aborted before it began', { started: false })
        : new Failure('FUNCTION_NOT_FOUND', `no function ${JSON.stringify(run.function)} is registered`)
      this.#report(failedDone(task.task, failure))
      return beganAt
    }
    if (!this.#isAnnounced) this.reports.send({ $case: 'started', value: { task: task.task } })
    while (this.reports.pending !== undefined) await this.reports.pending
    const running = new RunningTask(task.task, task.attempt, this.#onProgress)
    this.#running = running
    current.task = running
    const { stacks } = this.init
    const pending = invoke({ call: loaded.call, run, task, running, stacks, maxResultBytes: this.#maxResultBytes })
    const done = this.#checkSize(pending instanceof Promise ? await pending : pending)
    this.#running = undefined
    current.task = undefined
    const now = performance.now()
    done.runMs = now - beganAt
    this.#report(done)
    if (this.init.maxRssBytes > 0) this.#checkMemory(now)
    return now
  }

  /** A result that no message to a client can carry does not leave the worker. */
  #checkSize(done: Done): Done {
    const bytes = done.payload?.length ?? 0
    if (bytes <= this.#maxResultBytes) return done
    const message = `the result has ${bytes} bytes; the limit is ${this.#maxResultBytes}`
    return failedDone(done.task, new Failure('RESULT_TOO_LARGE', message))
  }

  get #maxResultBytes(): number {
    return Math.min(this.init.maxResultBytes || MAX_RESULT_BYTES, MAX_RESULT_BYTES)
  }

  /** Asks the server to replace a worker whose memory is above the limit. */
  #checkMemory(now: number): void {
    if (this.#isRetiring || now - this.#measuredAt < RSS_EVERY_MS) return
    this.#measuredAt = now
    const rssBytes = process.memoryUsage.rss()
    if (rssBytes <= this.init.maxRssBytes) return
    this.#isRetiring = true
    this.reports.send({ $case: 'retire', value: { rssBytes } })
  }

  /** Done also announces the next task if there is one: the server knows it, because it sent that task before. */
  #report(done: Done): void {
    this.#isAnnounced = this.#queue[this.#next] !== undefined
    this.reports.send({ $case: 'done', value: done })
  }

  #take(): Entry | undefined {
    const entry = this.#queue[this.#next++]
    if (entry) return entry
    this.#queue = []
    this.#next = 0
    return undefined
  }

  /** Hands a late task, and the late tasks that follow it, back to the server. */
  #returnLate(entry: Entry): void {
    const tasks = [entry.task.task]
    for (let next = this.#queue[this.#next]; next && isLate(next); next = this.#queue[++this.#next]) {
      tasks.push(next.task.task)
    }
    this.#isAnnounced = false
    this.reports.send({ $case: 'returned', value: { tasks } })
  }
}

const isLate = ({ run }: Entry): boolean => run.beginBy > 0 && monotonic() >= run.beginBy

/** The running task, as its function and invoke.ts see it. The signal is made on first use: most functions never use it. */
class RunningTask implements Task {
  #controller: AbortController | undefined
  #reason: string | undefined

  constructor(
    readonly id: number,
    readonly attempt: number,
    private readonly onProgress: (task: number, items: number) => void,
  ) {}

  get signal(): AbortSignal {
    if (!this.#controller) {
      this.#controller = new AbortController()
      if (this.#reason !== undefined) this.#controller.abort(abortError(this.#reason))
    }
    return this.#controller.signal
  }

  get isAborted(): boolean {
    return this.#reason !== undefined
  }

  abort(reason: string): void {
    this.#reason = reason
    this.#controller?.abort(abortError(reason))
  }

  progress(items: number): void {
    this.onProgress(this.id, items)
  }
}

const abortError = (reason: string) => new DOMException(`the caller has given up: ${reason}`, 'AbortError')
