import { Failure } from '../wire/failure.js'
import { monotonic } from '../wire/framing/frames.js'
import { MAX_TIMER_MS } from '../wire/protocol.js'
import type { FunctionInfo } from './function-table.js'
import type { Spawner } from './process/launcher.js'
import { type Enter, Upcoming } from './process/spawn-throttle.js'
import { Watch, type Watched } from './process/watchdog.js'
import { WorkerHandle, type WorkerInit, type WorkerTimes } from './process/worker-handle.js'
import type { Line } from './process/worker-output.js'
import { type PoolState, refusal, type WorkerExit, type WorkerPhase } from './scheduler/pool-state.js'
import { BEGIN_BY_MS } from './scheduler/run-queue.js'
import { type QueueLimits, Scheduler } from './scheduler/scheduler.js'
import type { Job, Owner, Task } from './scheduler/task.js'

/** How long a task may wait, and how long it may run: a task has one timer at a time. */
export class TaskTimers {
  constructor(private readonly end: (task: Task, reason: Failure) => void) {}

  /** It waits for a worker: until its time is over since it was accepted, or since its last try crashed. */
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

  #set(task: Task, phase: 'queued' | 'running', limitMs: number, leftMs: number): void {
    if (leftMs > MAX_TIMER_MS) return
    task.timer = setTimeout(() => this.end(task, late(phase, limitMs)), leftMs)
  }
}

const late = (phase: 'queued' | 'running', ms: number): Failure =>
  new Failure('TASK_TIMEOUT', `the task was ${phase} for ${ms} ms, which is as long as it may be`, {
    metadata: { phase, limit_ms: String(ms) },
  })

/**
 * A pool of worker processes with one queue: the scheduler's decisions (scheduler.ts) applied to real processes
 * (worker.ts). The way of one call through it:
 *
 *   rpc/apply.ts ─ submit ─▶ Scheduler ─ run ─▶ WorkerHandle ─ frame ─▶ worker/main.ts
 *   rpc/apply.ts ◀─ settle ─ Scheduler ◀─ done ─ WorkerHandle ◀─ frame ─┘
 */
export interface PoolOptions extends WorkerInit, WorkerTimes {
  /** At least 1. */
  readonly processes: number
  readonly maxTasksPerChild: number | undefined
  /** How many of its processes one connection may have at once; undefined for all. */
  readonly maxRunningPerClient: number | undefined
  readonly spawner: Spawner
  /** Of a pool that a client has opened: where its starts wait for their turn. */
  readonly enterStart?: Enter
  readonly limits: QueueLimits
  /** How long a task may run where neither its call nor its function says anything, in milliseconds; 0 for any time. */
  readonly runTimeoutMs: number
}

export interface PoolEvents {
  /** A promise holds the worker's output until it resolves: the log has enough for now. */
  printed?(worker: { pid: number }, lines: readonly Line[]): Promise<void> | undefined
  workerStarted?(worker: { pid: number }): void
  /** The system had no room for a worker, or its initializer failed where others' did not. */
  notStarted?(error: string): void
  workerExited?(exit: WorkerExit): void
  /** Once, when the workers of a failed pool have given up. */
  failed?(failure: Failure): void
  /** Its workers have come to die as soon as they start; and one has started all the same. */
  broken?(failure: Failure): void
  recovered?(): void
}

export interface WorkerView {
  readonly pid: number
  readonly phase: WorkerPhase
  readonly tasks: number
  /** What it runs; empty where it runs nothing. */
  readonly function: string
}

export class Pool {
  readonly #scheduler: Scheduler
  readonly #workers = new Map<number, WorkerHandle>()
  readonly #upcoming: Upcoming
  readonly #ready: Promise<readonly FunctionInfo[]>
  readonly #ended: Promise<void>
  #resolveEnded: () => void = () => {}
  #resolveReady: (functions: readonly FunctionInfo[]) => void = () => {}
  #rejectReady: (failure: Failure) => void = () => {}
  #runtime = ''
  #readyWorkers = 0
  /** What has been told of the state. */
  #told: PoolState['kind'] = 'open'
  #turning = false
  #leases: NodeJS.Timeout | undefined
  readonly #timers = new TaskTimers((task, reason) => this.#scheduler.end(task, reason))
  readonly #watch = new Watch(
    () => this.#watched(),
    (worker, why) => this.#workers.get(worker)?.kill(why),
  )

  constructor(
    readonly name: string,
    readonly options: PoolOptions,
    private readonly events: PoolEvents = {},
  ) {
    this.#upcoming = new Upcoming(options.enterStart)
    this.#ended = new Promise((resolve) => {
      this.#resolveEnded = resolve
    })
    this.#ready = new Promise((resolve, reject) => {
      this.#resolveReady = resolve
      this.#rejectReady = reject
    })
    // Whoever does not ask is not to be told by an unhandled rejection: submit() tells the same.
    this.#ready.catch(() => {})
    this.#scheduler = new Scheduler(options, {
      spawn: (worker, delayMs) => this.#spawn(worker, delayMs),
      run: (worker, tasks, beginBy) => {
        this.#workers.get(worker)?.run(tasks, beginBy)
        this.#watch.start()
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
      ended: () => this.#resolveEnded(),
    })
    this.#scheduler.start()
  }

  /** Resolves with the functions when every first worker is ready; rejects with the Failure that keeps them from it. */
  get ready(): Promise<readonly FunctionInfo[]> {
    return this.#ready
  }

  /** Resolves when the pool has been closed or terminated, or has failed, and its last process is gone. */
  get ended(): Promise<void> {
    return this.#ended
  }

  get state(): PoolState {
    return this.#scheduler.state
  }

  /** What runs the functions, for example "node v24.11.0". */
  get runtime(): string {
    return this.#runtime
  }

  get stats() {
    return this.#scheduler.stats
  }

  get workers(): WorkerView[] {
    return [...this.#workers].flatMap(([id, handle]) => {
      const worker = this.#scheduler.worker(id)
      if (!worker) return []
      return [
        { pid: handle.pid, phase: worker.phase, tasks: worker.tasks, function: worker.hand.first?.job.function ?? '' },
      ]
    })
  }

  /**
   * Accepts a task; `owner.settled(key, …)` is called exactly once. Throws a Failure where it refuses.
   * `held`: the task belongs to a request that holds the pool.
   */
  submit(
    job: Job,
    args: readonly Uint8Array[] | undefined,
    chunk: Uint8Array | undefined,
    owner: Owner,
    key: number,
    held = false,
  ): Task {
    const task = this.#scheduler.submit(job, args, chunk, owner, key, held)
    if (!task.started && !task.settled) this.#timers.waits(task)
    this.#turn()
    return task
  }

  /** Keeps a closing pool at work until the returned function is called: for a request that brings tasks bit by bit. */
  hold(): () => void {
    return this.#scheduler.hold()
  }

  /** A client is no longer full: its tasks can begin. */
  resume(): void {
    this.#scheduler.dispatch()
    this.#turn()
  }

  /** Ends a task from outside, with the reason. One that has already ended stays as it is. */
  end(task: Task, reason: Failure): void {
    this.#scheduler.end(task, reason)
  }

  /** Takes no more tasks; what was accepted is completed, then the workers end. */
  close(): void {
    this.#scheduler.close()
  }

  /** Fails what is not done and kills the workers; resolves when they are gone. */
  terminate(): Promise<void> {
    this.#scheduler.terminate()
    return this.#ended
  }

  /** At the end of this turn of the event loop: what came in it is dealt, and written, together. */
  #turn(): void {
    if (this.#turning) return
    this.#turning = true
    queueMicrotask(() => {
      this.#turning = false
      if (this.#scheduler.feed(monotonic())) this.#watchLeases()
      for (const worker of this.#workers.values()) worker.flush()
    })
  }

  /** Looks now and then for tasks that were lent and have not begun in time, as long as any is lent. */
  #watchLeases(): void {
    this.#leases ??= setTimeout(() => {
      this.#leases = undefined
      for (const worker of this.#scheduler.late(monotonic())) {
        const at = monotonic()
        this.#workers.get(worker)?.afterReading(() => {
          this.#scheduler.reclaim(worker, at)
          this.#turn()
        })
      }
      if (this.#scheduler.lends) this.#watchLeases()
    }, BEGIN_BY_MS)
  }

  #spawn(worker: number, delayMs: number): void {
    const start = () => {
      const process = this.options.spawner.spawn(({ message: error }) => {
        this.events.notStarted?.(error)
        this.#exited(worker, { pid: 0, exitCode: undefined, signal: undefined, error })
      })
      if (!process) return
      // Clients make pools as fast as they like, and wait for their own alone; for a worker of the shared pool all may wait.
      const isShared = this.options.enterStart === undefined
      if (!isShared) process.yieldCpu()
      const handle: WorkerHandle = new WorkerHandle(process, this.options, this.options, {
        ready: (functions, runtime) => {
          if (isShared) process.yieldCpu()
          this.#runtime = runtime
          this.events.workerStarted?.({ pid: handle.pid })
          if (++this.#readyWorkers === this.options.processes) this.#resolveReady(functions)
          this.#scheduler.ready(worker)
          this.#tellState()
        },
        initFailed: (failure) => {
          this.#scheduler.initFailed(worker, failure)
          if (this.state.kind !== 'failed') this.events.notStarted?.(failure.message)
          this.#tellState()
        },
        started: (task) => this.#scheduler.started(worker, task),
        done: (task, outcome, ranMs) => {
          this.#scheduler.done(worker, task, outcome, ranMs)
          this.#turn()
        },
        returned: (tasks) => {
          this.#scheduler.returned(worker, tasks)
          this.#turn()
        },
        progressed: (task, items) => this.#scheduler.progressed(worker, task, items),
        retire: () => this.#scheduler.retire(worker),
        printed: (lines) => this.events.printed?.({ pid: handle.pid }, lines),
        exited: (exit) => this.#exited(worker, exit),
      })
      this.#workers.set(worker, handle)
      this.#watch.start()
    }
    this.#upcoming.add(worker, delayMs, start)
  }

  /** Also for a worker that is still to be started: then it never is. */
  #end(worker: number, how: 'stop' | 'kill'): void {
    if (!this.#upcoming.remove(worker)) return this.#workers.get(worker)?.[how]()
    queueMicrotask(() => this.#exited(worker, { pid: 0, exitCode: 0, signal: undefined }))
  }

  #exited(worker: number, exit: WorkerExit): void {
    this.#workers.delete(worker)
    if (exit.pid !== 0) this.events.workerExited?.(exit)
    this.#scheduler.exited(worker, exit)
    this.#tellState()
  }

  *#watched(): Iterable<readonly [number, Watched]> {
    for (const [id, { pid, held }] of this.#workers) {
      const worker = this.#scheduler.worker(id)
      const task = worker?.hand.first
      if (task) yield [id, { pid, task: task.id, started: task.started, unheard: held }]
      else if (worker?.phase === 'starting') yield [id, { pid, task: 0, started: false, unheard: held }]
    }
  }

  #tellState(): void {
    const { state } = this
    if (state.kind === this.#told) return
    const before = this.#told
    this.#told = state.kind
    if (state.kind === 'open') return this.events.recovered?.()
    this.#rejectReady(refusal(state))
    if (state.kind === 'failed') this.events.failed?.(state.failure)
    else if (state.kind === 'broken' && before === 'open') this.events.broken?.(state.failure)
  }
}
