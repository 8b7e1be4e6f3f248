import { Failure } from '../../wire/failure.js'
import { RETRY_MS, START_ATTEMPTS } from '../../wire/limits.js'
import { TaskQueue } from './queue.js'
import { crash, describeExit, type PoolState, refusal, type WorkerExit, type WorkerPhase } from './state.js'
import { failed, type Outcome, type Task, type TaskSpec } from './task.js'

/**
 * Which task runs where: the decisions of a pool, without a process, a socket or a timer. Events come in as method
 * calls; what has to be done goes out through `Edges`, which pool.ts connects to real workers and a test to a list.
 *
 *                    submit                       assign
 *        (caller) ───────────▶ queue ───────────────────────▶ worker ──▶ done ──▶ settle
 *                                │  ▲        lost its worker     │
 *                                │  └────────────────────────────┤
 *                                └───────── end(reason) ─────────┴──────────────▶ settle
 *
 * Invariants; the tests cite the numbers.
 *  P1 A task is in exactly one place: the queue, one worker's hand, or settled.
 *  P2 Only #settle ends a task, by taking it out of the one map; whoever comes second finds nothing and changes nothing.
 *  P3 A worker has at most one task, and gets none before it said that it is ready.
 *  P4 Starting, idle and busy workers together are `processes`, as long as the pool can still get or has work.
 *  P5 A worker whose task was ended from outside gets the next task only after it has said done, or never.
 *  P6 A task whose worker died runs again if it never started, or if `retries` allow it; otherwise it fails.
 *  P7 closed, terminated and failed are final; a pool without workers in one of them has ended.
 *
 * Cancellation, deadline, the caller's death and the pool's end are one event: end(task, reason).
 */

/** What the scheduler asks for. None may call back into the scheduler before it returns. */
export interface Edges {
  /** Start a worker; the name is given by the scheduler. `delayMs` > 0 after one that died while it started. */
  spawn(worker: number, delayMs: number): void
  run(worker: number, task: Task): void
  /** The task has been ended from outside; if the worker does not say done within the grace, it is to be killed. */
  abort(worker: number, task: Task, reason: Failure): void
  /** End after what it does now. */
  stop(worker: number): void
  kill(worker: number): void
  /** The pool has reached an end state and its last worker is gone. */
  ended(): void
}

export interface SchedulerOptions {
  readonly processes: number
  /** A worker is replaced after so many tasks; undefined for never. */
  readonly maxTasksPerChild: number | undefined
}

interface Slot {
  readonly id: number
  phase: WorkerPhase
  /** In hand; stays here after it was ended from outside, until the worker says done (P5). */
  task: Task | undefined
  tasks: number
}

export class Scheduler {
  readonly counters = { submitted: 0, succeeded: 0, failed: 0, cancelled: 0, retried: 0, workersStarted: 0 }
  #state: PoolState = { kind: 'open' }
  readonly #tasks = new Map<number, Task>()
  readonly #queue = new TaskQueue()
  readonly #slots = new Map<number, Slot>()
  /** Idle workers, the one that has waited longest first. */
  readonly #idle = new Set<Slot>()
  /** Requests that were accepted and still bring tasks. */
  #holds = 0
  #nextTask = 1
  #nextWorker = 1
  /** Workers that died, one after another, before they were ready. */
  #deadStarts = 0
  #hasEnded = false

  constructor(
    private readonly options: SchedulerOptions,
    private readonly edges: Edges,
  ) {}

  get state(): PoolState {
    return this.#state
  }
  get queued(): number {
    return this.#queue.size
  }
  get running(): number {
    return this.#tasks.size - this.#queue.size
  }
  get hasEnded(): boolean {
    return this.#hasEnded
  }

  /** What a worker does now; undefined for one that is gone. */
  worker(id: number): { phase: WorkerPhase; tasks: number; task: Task | undefined } | undefined {
    return this.#slots.get(id)
  }

  start(): void {
    this.#fill()
  }

  /**
   * Accepts a request that brings its tasks one after another; they are accepted too, also after close(). The caller
   * calls the returned function once, after the last. Throws the Failure that says why not.
   */
  hold(): () => void {
    if (this.#state.kind !== 'open') throw refusal(this.#state)
    this.#holds++
    return () => {
      this.#holds--
      this.#settleState()
    }
  }

  /** Accepts a task; throws the Failure that says why not. `held`: it belongs to a request that holds the pool. */
  submit(spec: TaskSpec, settle: (outcome: Outcome) => void, held = false): number {
    if (this.#state.kind !== 'open' && !(held && this.#state.kind === 'closing')) throw refusal(this.#state)
    const task: Task = { id: this.#nextTask++, spec, settle, attempt: 1, started: false }
    this.counters.submitted++
    this.#tasks.set(task.id, task)
    this.#queue.push(task)
    this.#dispatch()
    return task.id
  }

  /** Ends a task from outside: its caller is gone or gave up. Queued: dropped. Running: settled now, aborted there. */
  end(taskId: number, reason: Failure): void {
    const task = this.#tasks.get(taskId)
    if (!task) return
    this.counters.cancelled++
    const wasQueued = this.#queue.remove(taskId)
    const started = task.started
    this.#settle(task, failed(new Failure(reason.reason, reason.message, { started, metadata: reason.metadata })))
    if (wasQueued) return this.#settleState()
    for (const slot of this.#slots.values()) if (slot.task === task) this.edges.abort(slot.id, task, reason)
  }

  ready(workerId: number): void {
    const slot = this.#slots.get(workerId)
    if (slot?.phase !== 'starting') return
    this.#deadStarts = 0
    this.#rest(slot)
  }

  /** The worker's modules or initializer failed: no other worker would fare better. */
  initFailed(workerId: number, failure: Failure): void {
    const slot = this.#slots.get(workerId)
    if (slot) slot.phase = 'stopping'
    this.#fail(failure)
  }

  started(workerId: number, taskId: number): void {
    const task = this.#slots.get(workerId)?.task
    if (task?.id === taskId) task.started = true
  }

  done(workerId: number, taskId: number, outcome: Outcome): void {
    const slot = this.#slots.get(workerId)
    const task = slot?.task
    if (!slot || task?.id !== taskId) return
    slot.task = undefined
    slot.tasks++
    if (this.#tasks.has(taskId)) this.counters[outcome.ok ? 'succeeded' : 'failed']++
    this.#settle(task, outcome)
    if (slot.phase === 'busy') this.#rest(slot)
  }

  exited(workerId: number, exit: WorkerExit): void {
    const slot = this.#slots.get(workerId)
    if (!slot) return
    const starting = slot.phase === 'starting'
    this.#slots.delete(workerId)
    this.#idle.delete(slot)
    if (starting) this.#deadStarts++
    if (slot.task) this.#lost(slot.task, exit)
    if (this.#deadStarts >= START_ATTEMPTS) {
      const message = `${START_ATTEMPTS} workers in a row died before they were ready; the last one ${describeExit(exit)}`
      this.#fail(new Failure('NO_WORKERS', message, { retryDelayMs: RETRY_MS }))
    }
    this.#fill()
    this.#settleState()
  }

  close(): void {
    if (this.#state.kind !== 'open') return
    this.#state = { kind: 'closing' }
    this.#settleState()
  }

  terminate(): void {
    if (this.#state.kind === 'terminated') return
    const final = this.#state.kind === 'closed' && this.#hasEnded
    if (final) return
    this.#state = { kind: 'terminated' }
    for (const task of this.#tasks.values()) {
      this.#queue.remove(task.id)
      this.counters.cancelled++
      const message = `the pool was terminated while ${task.spec.function} was ${task.started ? 'running' : 'waiting'}`
      this.#settle(task, failed(new Failure('POOL_TERMINATED', message, { started: task.started })))
    }
    for (const slot of this.#slots.values()) this.edges.kill(slot.id)
    this.#settleState()
  }

  #fail(failure: Failure): void {
    if (this.#state.kind !== 'open' && this.#state.kind !== 'closing') return
    this.#state = { kind: 'failed', failure }
    for (let task = this.#queue.shift(); task; task = this.#queue.shift()) {
      this.counters.failed++
      this.#settle(task, failed(failure))
    }
    this.#settleState()
  }

  /** P6 */
  #lost(task: Task, exit: WorkerExit): void {
    if (!this.#tasks.has(task.id)) return
    if (this.#state.kind === 'open' || this.#state.kind === 'closing') {
      if (!task.started) return this.#queue.unshift(task)
      if (task.attempt <= task.spec.retries) {
        task.attempt++
        task.started = false
        this.counters.retried++
        return this.#queue.unshift(task)
      }
    }
    this.counters.failed++
    this.#settle(task, failed(crash(task, exit)))
  }

  /** P2 */
  #settle(task: Task, outcome: Outcome): void {
    if (this.#tasks.delete(task.id)) task.settle(outcome)
  }

  /** A worker has nothing in hand: it is recycled, or takes the next task, or waits. */
  #rest(slot: Slot): void {
    const max = this.options.maxTasksPerChild
    if (max !== undefined && slot.tasks >= max) {
      this.#stop(slot)
      this.#fill()
    } else {
      slot.phase = 'idle'
      this.#idle.add(slot)
      this.#dispatch()
    }
    this.#settleState()
  }

  #dispatch(): void {
    for (const slot of this.#idle) {
      const task = this.#queue.shift()
      if (!task) return
      this.#idle.delete(slot)
      slot.phase = 'busy'
      slot.task = task
      this.edges.run(slot.id, task)
    }
  }

  get #busy(): boolean {
    return this.#tasks.size > 0 || (this.#holds > 0 && this.#state.kind === 'closing')
  }

  /** P4 */
  #fill(): void {
    if (this.#state.kind !== 'open' && !(this.#state.kind === 'closing' && this.#busy)) return
    let living = 0
    for (const slot of this.#slots.values()) if (slot.phase !== 'stopping') living++
    for (; living < this.options.processes; living++) {
      const slot: Slot = { id: this.#nextWorker++, phase: 'starting', task: undefined, tasks: 0 }
      this.#slots.set(slot.id, slot)
      this.counters.workersStarted++
      this.edges.spawn(slot.id, 100 * this.#deadStarts ** 2)
    }
  }

  #stop(slot: Slot): void {
    slot.phase = 'stopping'
    this.#idle.delete(slot)
    this.edges.stop(slot.id)
  }

  /** P7: where no work is left for a pool that takes none, its workers end; after the last one, so does the pool. */
  #settleState(): void {
    if (this.#state.kind === 'open' || this.#hasEnded) return
    if (this.#state.kind !== 'terminated' && !this.#busy) {
      if (this.#state.kind === 'closing') this.#state = { kind: 'closed' }
      for (const slot of this.#slots.values()) if (slot.phase === 'idle' || slot.phase === 'starting') this.#stop(slot)
    }
    if (this.#slots.size > 0) return
    this.#hasEnded = true
    this.edges.ended()
  }
}
