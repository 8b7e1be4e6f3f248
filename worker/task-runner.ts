import type { Done, Init, Run, Task } from '../proto/gen/farpool/worker/v1/worker.js'
import { Failure } from '../wire/failure.js'
import { monotonic } from '../wire/framing/frames.js'
import { MAX_FRAME_BYTES } from '../wire/protocol.js'
import { RunningTask, setCurrentTask } from './current-task.js'
import { failedDone, invoke } from './invoke.js'
import type { LoadedFunction } from './load-functions.js'
import type { Outbox } from './reports.js'

/** A worker that may not grow beyond a size looks at it between two tasks, at most this often, in milliseconds. */
const RSS_EVERY_MS = 100

/** What a frame can carry besides its routing fields. */
const MAX_RESULT_BYTES = MAX_FRAME_BYTES - 64 * 1024

/** Between tasks the worker hears what has come meanwhile, at the latest after so many milliseconds. */
const LISTEN_EVERY_MS = 1

interface Entry {
  readonly run: Run
  readonly task: Task
}

/** The tasks that the worker has been given: executed one after another, in the order in which they came. */
export class Hand {
  #waiting: Entry[] = []
  #next = 0
  #running: RunningTask | undefined
  /** Why tasks that have not begun were given up. */
  readonly #aborted = new Map<number, string>()
  /** Whether the server knows that the next task begins. */
  #isTold = false
  #isWorking = false
  #whenIdle: () => void = () => {}
  #weighed = 0
  #isRetiring = false
  readonly #onProgress = (task: number, items: number) =>
    this.outbox.send({ $case: 'progress', value: { task, items } })

  constructor(
    private readonly functions: ReadonlyMap<string, LoadedFunction>,
    private readonly init: Init,
    private readonly outbox: Outbox,
  ) {}

  /** The number of the task that runs; 0 for none. */
  get running(): number {
    return this.#running?.id ?? 0
  }

  /** Resolves when there is nothing left to do. */
  idle(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#isWorking) this.#whenIdle = resolve
      else resolve()
    })
  }

  add(run: Run): void {
    for (const task of run.tasks) this.#waiting.push({ run, task })
    if (!this.#isWorking) void this.#work()
  }

  abort(task: number, reason: string): void {
    if (this.#running?.id === task) this.#running.abort(reason)
    else if (this.#isWorking) this.#aborted.set(task, reason)
  }

  async #work(): Promise<void> {
    this.#isWorking = true
    let listened = performance.now()
    this.#isTold = false
    for (let entry = this.#take(); entry; entry = this.#take()) {
      if (isLate(entry)) {
        this.#return(entry)
        continue
      }
      const now = await this.#execute(entry)
      // Not before what has been said is on its way: a task must not begin while nobody can know of it.
      while (this.outbox.sent !== undefined) await this.outbox.sent
      if (now - listened < LISTEN_EVERY_MS) continue
      await new Promise(setImmediate)
      listened = performance.now()
    }
    // What was given up has been done: its word came too late.
    this.#aborted.clear()
    this.#isWorking = false
    this.#whenIdle()
  }

  async #execute({ run, task }: Entry): Promise<number> {
    const began = performance.now()
    const loaded = this.functions.get(run.function)
    const aborted = this.#aborted.size > 0 && this.#aborted.delete(task.task)
    if (aborted || !loaded) {
      const failure = loaded
        ? new Failure('CANCELLED', 'the task was aborted before it began', { started: false })
        : new Failure('FUNCTION_NOT_FOUND', `no function ${JSON.stringify(run.function)} is registered`)
      this.#tell(failedDone(task.task, failure))
      return began
    }
    if (!this.#isTold) this.outbox.send({ $case: 'started', value: { task: task.task } })
    // Where the socket is full, it has not left yet.
    while (this.outbox.sent !== undefined) await this.outbox.sent
    this.#running = new RunningTask(task.task, task.attempt, this.#onProgress)
    setCurrentTask(this.#running)
    const pending = invoke(loaded.call, run, task, this.#running, this.init.stacks)
    const done = this.#checkSize(pending instanceof Promise ? await pending : pending)
    this.#running = undefined
    setCurrentTask(undefined)
    const now = performance.now()
    done.runMs = now - began
    this.#tell(done)
    if (this.init.maxRssBytes > 0) this.#weigh(now)
    return now
  }

  /** What no message to a client can carry never leaves the worker. */
  #checkSize(done: Done): Done {
    const bytes = done.payload?.length ?? 0
    const { maxResultBytes } = this.init
    const most = Math.min(maxResultBytes || MAX_RESULT_BYTES, MAX_RESULT_BYTES)
    if (bytes <= most) return done
    const message = `the result takes ${bytes} bytes; a message carries at most ${most}`
    return failedDone(done.task, new Failure('RESULT_TOO_LARGE', message))
  }

  /** Asks to be replaced, once, when it has grown too large. */
  #weigh(now: number): void {
    if (this.#isRetiring || now - this.#weighed < RSS_EVERY_MS) return
    this.#weighed = now
    const rssBytes = process.memoryUsage.rss()
    if (rssBytes <= this.init.maxRssBytes) return
    this.#isRetiring = true
    this.outbox.send({ $case: 'retire', value: { rssBytes } })
  }

  /** Also that the next begins, if it is here: the server has sent it before it hears this. */
  #tell(done: Done): void {
    this.#isTold = this.#waiting[this.#next] !== undefined
    this.outbox.send({ $case: 'done', value: done })
  }

  #take(): Entry | undefined {
    const entry = this.#waiting[this.#next++]
    if (entry) return entry
    this.#waiting = []
    this.#next = 0
    return undefined
  }

  /** This and those behind it that are late too go back to the server. */
  #return(entry: Entry): void {
    const tasks = [entry.task.task]
    for (let next = this.#waiting[this.#next]; next && isLate(next); next = this.#waiting[++this.#next]) {
      tasks.push(next.task.task)
    }
    this.#isTold = false
    this.outbox.send({ $case: 'returned', value: { tasks } })
  }
}

const isLate = ({ run }: Entry): boolean => run.beginBy > 0 && monotonic() >= run.beginBy
