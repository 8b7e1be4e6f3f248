import type { Failure } from '../wire/failure.js'
import { monotonic } from '../wire/framing/frames.js'
import { MAX_TIMER_MS } from '../wire/protocol.js'
import { type Phase, phaseTimedOut } from '../wire/timeout.js'
import type { EnginePool, EnginePoolOptions, PoolStats, WorkerView } from './engine.js'
import { FunctionTable } from './function-table.js'
import type { Launcher } from './process/launcher.js'
import { PendingStarts, type SpawnThrottle } from './process/spawn-throttle.js'
import { Watchdog, type WatchedWorker } from './process/watchdog.js'
import { type FunctionInfo, WorkerHandle, type WorkerInit } from './process/worker-handle.js'
import type { OutputLine } from './process/worker-output.js'
import type { Observer } from './scheduler/effects.js'
import { type PoolState, refusal, type WorkerExit } from './scheduler/pool-state.js'
import { BEGIN_BY_MS } from './scheduler/run-queue.js'
import { Scheduler } from './scheduler/scheduler.js'
import type { Identity, Task, TaskRequest } from './scheduler/task.js'

/** Takes the lines that a worker printed. If it returns a promise, the worker waits until that resolves. */
export type OutputSink = (worker: { readonly pid: number }, lines: readonly OutputLine[]) => Promise<void> | undefined

export interface PoolOptions extends EnginePoolOptions, WorkerInit {
  /** Tasks after which a worker is replaced; undefined for never. A chunk is one task. */
  readonly maxTasksPerChild: number | undefined
  /** Workers that one identity may have at once; undefined for all. */
  readonly maxRunningPerClient: number | undefined
  readonly launcher: Launcher
  /** Where the starts of an owned pool's workers wait for their turn; undefined for a shared pool. */
  readonly throttle?: SpawnThrottle
  /** The functions of the shared pool that an owned pool is made from. Without them, the pool learns them from its workers. */
  readonly functions?: FunctionTable
  readonly observer?: Observer
  /** Without it, worker output is dropped. */
  readonly output?: OutputSink
}

/**
 * A pool of worker processes with one queue: it applies the scheduler's decisions to real processes. It uses no gRPC and
 * no network, so any program can use it. It does not keep the program alive; who waits for it does that. The way of one
 * task:
 *
 *   caller ─ submit ─▶ Pool ─▶ Scheduler ─ run ─▶ WorkerHandle ─ command ─▶ worker process
 *   owner ◀─ settled ────────── Scheduler ◀─ done ─ WorkerHandle ◀─ report ────────┘
 */
export class Pool implements EnginePool {
  readonly functions: FunctionTable
  readonly #scheduler: Scheduler
  readonly #workers = new Map<number, WorkerHandle>()
  readonly #starts: PendingStarts
  readonly #timers = new TaskTimers((task, reason) => this.#scheduler.end(task, reason))
  readonly #watchdog = new Watchdog(
    () => this.#watched(),
    (worker, why) => this.#workers.get(worker)?.kill(why),
  )
  readonly #ready = deferred<readonly FunctionInfo[]>()
  readonly #ended = deferred<void>()
  #runtime = ''
  #readyWorkers = 0
  /** The state that the observer knows. */
  #observedState: PoolState['kind'] = 'open'
  /** `#endTurn` will run at the end of this turn of the event loop. */
  #isTurn = false
  #beginByTimer: NodeJS.Timeout | undefined

  constructor(
    readonly name: string,
    readonly options: PoolOptions,
  ) {
    const { observer } = options
    this.functions = options.functions ?? new FunctionTable([], options.initializer || undefined)
    this.#starts = new PendingStarts(options.throttle)
    // For callers that do not wait for it: `submit` throws the same.
    this.#ready.promise.catch(() => {})
    this.#scheduler = new Scheduler(
      options,
      {
        spawn: (worker, delayMs) => this.#spawn(worker, delayMs),
        run: (worker, tasks, beginBy) => {
          this.#workers.get(worker)?.run(tasks, beginBy)
          this.#turn()
        },
        waits: (task) => this.#timers.waits(task),
        began: (task) => this.#timers.began(task),
        abort: (worker, task, reason) => {
          this.#workers.get(worker)?.abort(task.id, reason.reason)
          this.#turn()
        },
        overdue: (worker) => this.#workers.get(worker)?.overdue(),
        stop: (worker) => this.#end(worker, 'stop'),
        kill: (worker) => this.#end(worker, 'kill'),
        ended: () => {
          this.#watchdog.stop()
          this.#ended.resolve()
        },
      },
      observer?.task && ((event) => observer.task?.(event)),
    )
    this.#watchdog.start()
    this.#scheduler.start()
  }

  /** Resolves with the functions when every first worker is ready. Rejects with the Failure that prevents it. */
  get ready(): Promise<readonly FunctionInfo[]> {
    return this.#ready.promise
  }

  get ended(): Promise<void> {
    return this.#ended.promise
  }

  get state(): PoolState {
    return this.#scheduler.state
  }

  get runtime(): string {
    return this.#runtime
  }

  get stats(): PoolStats {
    return this.#scheduler.stats
  }

  get workers(): readonly WorkerView[] {
    return [...this.#workers].flatMap(([id, { pid }]) => {
      const slot = this.#scheduler.worker(id)
      if (!slot) return []
      const { phase, finished, runQueue } = slot
      return [{ pid, phase, tasks: finished, function: runQueue.first?.job.function ?? '' }]
    })
  }

  submit(request: TaskRequest): Task {
    const task = this.#scheduler.submit(request)
    if (!task.started && !task.settled) this.#timers.waits(task)
    this.#turn()
    return task
  }

  waiting(identity: Identity): number {
    return this.#scheduler.waiting(identity)
  }

  hold(): () => void {
    return this.#scheduler.hold()
  }

  resume(): void {
    this.#scheduler.dispatch()
    this.#turn()
  }

  end(task: Task, reason: Failure): void {
    this.#scheduler.end(task, reason)
  }

  close(): void {
    this.#scheduler.close()
    this.#observeState()
  }

  terminate(how?: string): Promise<void> {
    this.#scheduler.terminate(how)
    this.#observeState()
    return this.ended
  }

  /** Replaces every worker once its current task has ended, as after maxTasksPerChild. */
  replaceWorkers(): void {
    // A copy: replacements join the map meanwhile.
    for (const worker of [...this.#workers.keys()]) this.#scheduler.retire(worker)
  }

  /** Once in each turn of the event loop in which something happened: run queues are filled, and commands leave together. */
  #turn(): void {
    if (this.#isTurn) return
    this.#isTurn = true
    queueMicrotask(() => {
      this.#isTurn = false
      if (this.#scheduler.prefetch(monotonic())) this.#watchBeginBy()
      for (const worker of this.#workers.values()) worker.flush()
    })
  }

  /** While any task is prefetched, looks every BEGIN_BY_MS for those that have not begun in time. */
  #watchBeginBy(): void {
    this.#beginByTimer ??= setTimeout(() => {
      this.#beginByTimer = undefined
      for (const worker of this.#scheduler.late(monotonic())) {
        const now = monotonic()
        this.#workers.get(worker)?.afterReading(() => {
          this.#scheduler.takeBackLate(worker, now)
          this.#turn()
        })
      }
      if (this.#scheduler.hasPrefetched) this.#watchBeginBy()
    }, BEGIN_BY_MS).unref()
  }

  #spawn(worker: number, delayMs: number): void {
    this.options.observer?.worker?.({ kind: 'starting', worker, delayMs })
    this.#starts.add(worker, delayMs, () => this.#launch(worker))
  }

  #launch(worker: number): void {
    const process = this.options.launcher.launch(({ message: error }) => {
      this.options.observer?.worker?.({ kind: 'start-failed', worker, error })
      this.#exited(worker, { pid: 0, exitCode: undefined, signal: undefined, error })
    })
    if (!process) return
    // All clients may wait for a worker of a shared pool, so it starts with full priority. An owned pool has one client.
    const isShared = this.options.throttle === undefined
    if (!isShared) process.lowerPriority()
    const handle = new WorkerHandle(process, this.options, this.options, {
      ready: (functions, runtime) => {
        if (isShared) process.lowerPriority()
        this.#runtime = runtime
        this.#starts.ended(worker)
        this.options.observer?.worker?.({ kind: 'ready', worker, pid: process.pid })
        if (++this.#readyWorkers === this.options.processes) {
          if (!this.options.functions) this.functions.replace(functions)
          this.#ready.resolve(functions)
        }
        this.#scheduler.ready(worker)
        this.#observeState()
      },
      initFailed: (failure) => {
        this.#starts.ended(worker)
        this.#scheduler.initFailed(worker, failure)
        if (this.state.kind !== 'failed') {
          this.options.observer?.worker?.({ kind: 'start-failed', worker, error: failure.message })
        }
        this.#observeState()
      },
      started: (task) => this.#scheduler.started(worker, task),
      done: (task, outcome, ranMs) => {
        this.#scheduler.done(worker, task, outcome, ranMs)
        this.#turn()
      },
      handedBack: (tasks) => {
        this.#scheduler.handedBack(worker, tasks)
        this.#turn()
      },
      progressed: (task, items) => this.#scheduler.progressed(worker, task, items),
      retire: () => this.#scheduler.retire(worker),
      printed: (lines) => this.options.output?.({ pid: process.pid }, lines),
      exited: (exit) => this.#exited(worker, exit),
    })
    this.#workers.set(worker, handle)
  }

  /** A worker that has not been launched never will be. */
  #end(worker: number, how: 'stop' | 'kill'): void {
    if (!this.#starts.cancel(worker)) return this.#workers.get(worker)?.[how]()
    queueMicrotask(() => this.#exited(worker, { pid: 0, exitCode: 0, signal: undefined }))
  }

  #exited(worker: number, exit: WorkerExit): void {
    this.#workers.delete(worker)
    this.#starts.ended(worker)
    if (exit.pid !== 0) {
      const first = this.#scheduler.worker(worker)?.runQueue.first
      this.options.observer?.worker?.({ kind: 'exited', worker, exit, task: first?.started ? first : undefined })
    }
    this.#scheduler.exited(worker, exit)
    this.#observeState()
  }

  *#watched(): Iterable<readonly [number, WatchedWorker]> {
    for (const [id, { pid, isPaused }] of this.#workers) {
      const slot = this.#scheduler.worker(id)
      const task = slot?.runQueue.first
      if (task) yield [id, { pid, task: task.id, started: task.started, isPaused }]
      else if (slot?.phase === 'starting') yield [id, { pid, task: 0, started: false, isPaused }]
    }
  }

  #observeState(): void {
    const { state } = this
    if (state.kind === this.#observedState) return
    this.#observedState = state.kind
    if (state.kind !== 'open') this.#ready.reject(refusal(state))
    this.options.observer?.state?.(state)
  }
}

/** Ends tasks that wait, or run, for too long. A task has one timer at a time. */
class TaskTimers {
  constructor(private readonly end: (task: Task, reason: Failure) => void) {}

  /** The task is in the queue. Its time counts from its submission, or from the crash of its last attempt. */
  waits(task: Task): void {
    clearTimeout(task.timer)
    const { queueTimeoutMs } = task.job
    if (queueTimeoutMs === 0) return
    task.waitsUntil ||= monotonic() + queueTimeoutMs
    this.#set(task, 'queued', queueTimeoutMs, task.waitsUntil - monotonic())
  }

  began(task: Task): void {
    clearTimeout(task.timer)
    const { runTimeoutMs } = task.job
    if (runTimeoutMs > 0) this.#set(task, 'running', runTimeoutMs, runTimeoutMs)
  }

  #set(task: Task, phase: Phase, limitMs: number, leftMs: number): void {
    if (leftMs > MAX_TIMER_MS) return
    task.timer = setTimeout(() => this.end(task, phaseTimedOut(phase, limitMs)), leftMs)
  }
}

interface Deferred<T> {
  readonly promise: Promise<T>
  readonly resolve: (value: T) => void
  readonly reject: (reason: Failure) => void
}

function deferred<T>(): Deferred<T> {
  let resolve: (value: T) => void = () => {}
  let reject: (reason: Failure) => void = () => {}
  const promise = new Promise<T>((onValue, onFailure) => {
    resolve = onValue
    reject = onFailure
  })
  return { promise, resolve, reject }
}
