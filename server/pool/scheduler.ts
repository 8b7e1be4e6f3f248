import { Failure } from '../../wire/failure.js'
import { RETRY_MS, START_ATTEMPTS } from '../../wire/limits.js'
import { Crew, type Slot } from './crew.js'
import type { Edges } from './edges.js'
import { Estimates } from './estimate.js'
import { Ledger } from './ledger.js'
import { TaskQueue } from './queue.js'
import { crash, describeExit, type PoolState, refusal, type WorkerExit } from './state.js'
import type { Job, Outcome, Owner, Task } from './task.js'

/**
 * Which task runs where: the decisions of a pool, without a process, a socket or a timer. Events come in as method
 * calls; what has to be done goes out through `Edges`, which pool.ts connects to real workers and a test to a list.
 *
 *                    submit               dispatch, feed           done
 *        (caller) ───────────▶ queue ───────────────────────▶ hand ──────▶ settle
 *                                │  ▲   lost, reclaim, returned │
 *                                │  └───────────────────────────┤
 *                                └───────── end(reason) ────────┴────────▶ settle
 *
 * Invariants; the tests cite the numbers.
 *  P1 A task is in exactly one place: the queue, one worker's hand, or settled.
 *  P2 A task's owner is told once (ledger.ts); whatever comes second finds the task settled and changes nothing.
 *  P3 A worker has nothing in hand before it is ready. More than one task only of kinds that have run before, expected
 *     to take HAND_MS together (or one of AHEAD_MS, from a deep queue), and only while no worker is idle.
 *  P4 Starting, idle and busy workers together are `processes`, as long as the pool can still get or has work.
 *  P5 A worker whose task was ended from outside gets the next task only after it has said done, or never.
 *  P6 A task whose worker died runs again if it never started, or if `retries` allow it; otherwise it fails.
 *  P7 closed, terminated and failed are final; a pool without workers in one of them has ended.
 *  P8 Only the first in a hand can have begun. The others are reclaimed only when their lease has passed and all that
 *     the worker had said by then has been heard; until it has returned them, it gets no others.
 *
 * Cancellation, deadline, the caller's death and the pool's end are one event: end(task, reason).
 */

export interface SchedulerOptions {
  readonly processes: number
  /** A worker is replaced after so many tasks; undefined for never. */
  readonly maxTasksPerChild: number | undefined
}

export class Scheduler {
  #state: PoolState = { kind: 'open' }
  readonly #queue = new TaskQueue()
  readonly #estimates = new Estimates()
  readonly #crew = new Crew()
  readonly #ledger = new Ledger()
  /** Requests that were accepted and still bring tasks. */
  #holds = 0
  #hasEnded = false

  constructor(
    private readonly options: SchedulerOptions,
    private readonly edges: Edges,
  ) {}

  get state(): PoolState {
    return this.#state
  }
  get stats() {
    const { running, started } = this.#crew
    return { queued: this.#ledger.open - running, running, workersStarted: started, ...this.#ledger.counters }
  }

  /** What a worker does now; undefined for one that is gone. */
  worker(id: number): Readonly<Slot> | undefined {
    return this.#crew.get(id)
  }
  start(): void {
    this.#fill()
  }

  /**
   * Accepts a request that brings its tasks bit by bit, also after close(); the caller calls the returned function once,
   * after the last. Throws the Failure that says why not.
   */
  hold(): () => void {
    if (this.#state.kind !== 'open') throw refusal(this.#state)
    this.#holds++
    return () => {
      this.#holds--
      this.#settleState()
    }
  }

  /**
   * Accepts a task, of a request that holds the pool where `held`; throws the Failure that says why not.
   * `owner.settled(key, …)` is called exactly once.
   */
  submit(
    job: Job,
    args: readonly Uint8Array[] | undefined,
    chunk: Uint8Array | undefined,
    owner: Owner,
    key: number,
    held = false,
  ): Task {
    if (this.#state.kind !== 'open' && !(held && this.#state.kind === 'closing')) throw refusal(this.#state)
    const task = this.#ledger.accept(job, args, chunk, owner, key)
    this.#queue.push(task)
    this.dispatch()
    return task
  }

  /** Ends a task from outside: its caller is gone or gave up. Queued: dropped. In a hand: settled now, aborted there. */
  end(task: Task, reason: Failure): void {
    if (task.settled) return
    const wasQueued = this.#queue.remove(task)
    const { reason: why, message, metadata } = reason
    this.#ledger.cancel(task, new Failure(why, message, { started: task.started, metadata }))
    if (wasQueued) return this.#settleState()
    for (const { id, hand } of this.#crew) {
      if (!hand.has(task)) continue
      this.edges.abort(id, task, reason)
      if (hand.first === task) this.edges.overdue(id)
    }
  }

  ready(workerId: number): void {
    const slot = this.#crew.get(workerId)
    if (slot?.phase !== 'starting') return
    this.#crew.deadStarts = 0
    this.#rest(slot)
  }

  /** The worker's modules or initializer failed: no other worker would fare better. */
  initFailed(workerId: number, failure: Failure): void {
    const slot = this.#crew.get(workerId)
    if (slot) this.#crew.stop(slot)
    this.#fail(failure)
  }

  started(workerId: number, taskId: number): void {
    const task = this.#crew.get(workerId)?.hand.first
    if (task?.id === taskId) task.started = true
  }
  /** A worker runs what it has in order: what comes for another task than the first of its hand comes too late. */
  done(workerId: number, taskId: number, outcome: Outcome, ranMs: number): void {
    const slot = this.#crew.get(workerId)
    const task = slot?.hand.first
    if (!slot || task?.id !== taskId) return slot?.hand.forget(taskId)
    slot.hand.drop()
    slot.tasks++
    if (!task.settled) this.#estimates.learn(task, ranMs)
    this.#ledger.done(task, outcome)
    this.#first(slot)
    if (slot.phase === 'busy') this.#rest(slot)
  }

  /** The worker has not begun these in time, and will not. */
  returned(workerId: number, taskIds: readonly number[]): void {
    const slot = this.#crew.get(workerId)
    if (!slot) return
    slot.hand.returned(this.#queue, taskIds)
    if (slot.hand.first?.settled) this.edges.overdue(slot.id)
    if (slot.phase === 'busy') this.#rest(slot)
    this.dispatch()
  }

  exited(workerId: number, exit: WorkerExit): void {
    const slot = this.#crew.get(workerId)
    if (!slot) return
    this.#crew.remove(slot)
    for (const task of [...slot.hand].reverse()) this.#lost(task, exit)
    if (this.#crew.deadStarts >= START_ATTEMPTS) {
      const message = `${START_ATTEMPTS} workers in a row died before they were ready; the last one ${describeExit(exit)}`
      this.#fail(new Failure('NO_WORKERS', message, { retryDelayMs: RETRY_MS }))
    }
    this.#fill()
    this.dispatch()
    this.#settleState()
  }

  /** Fills the hands of busy workers from the queue, evenly: at the end of a turn. Tells whether anything has been lent. */
  feed(now: number): boolean {
    if (this.#queue.size === 0 || this.#crew.hasIdle) return false
    let lent = false
    for (const [slot, tasks] of this.#crew.lend(this.#queue, this.#estimates, this.options.maxTasksPerChild, now)) {
      this.edges.run(slot.id, tasks, tasks[0]?.beginBy ?? 0)
      lent = true
    }
    return lent
  }

  get lends(): boolean {
    return this.#crew.lends
  }
  /** Workers with tasks to reclaim, each once it has been heard to the end (P8). */
  late(now: number): number[] {
    return [...this.#crew].filter(({ hand }) => hand.isLate(now)).map(({ id }) => id)
  }

  /** Takes back what was lent and has not begun in time. */
  reclaim(workerId: number, now: number): void {
    this.#crew.get(workerId)?.hand.reclaim(this.#queue, now)
    this.dispatch()
  }

  close(): void {
    if (this.#state.kind !== 'open') return
    this.#state = { kind: 'closing' }
    this.#settleState()
  }

  terminate(): void {
    if (this.#state.kind === 'terminated' || (this.#state.kind === 'closed' && this.#hasEnded)) return
    this.#state = { kind: 'terminated' }
    const end = (task: Task) => {
      const message = `the pool was terminated while ${task.job.function} was ${task.started ? 'running' : 'waiting'}`
      this.#ledger.cancel(task, new Failure('POOL_TERMINATED', message, { started: task.started }))
    }
    for (const task of this.#queue.drain()) end(task)
    for (const slot of this.#crew) {
      for (const task of slot.hand) end(task)
      this.edges.kill(slot.id)
    }
    this.#settleState()
  }

  #fail(failure: Failure): void {
    if (this.#state.kind !== 'open' && this.#state.kind !== 'closing') return
    this.#state = { kind: 'failed', failure }
    for (const task of this.#queue.drain()) this.#ledger.fail(task, failure)
    this.#settleState()
  }

  /** P6 */
  #lost(task: Task, exit: WorkerExit): void {
    if (task.settled) return
    if (!task.started) return this.#queue.unshift(task)
    if (this.#state.kind === 'open' || this.#state.kind === 'closing') {
      if (task.attempt <= task.job.retries) {
        this.#ledger.retry(task)
        return this.#queue.unshift(task)
      }
    }
    this.#ledger.fail(task, crash(task, exit))
  }

  /** The next in hand begins, for all that is known here. */
  #first(slot: Slot): void {
    const task = slot.hand.first
    if (task) task.started = true
    if (task?.settled) this.edges.overdue(slot.id)
  }

  /** A worker that has nothing in hand is recycled, or takes the next task, or waits. */
  #rest(slot: Slot): void {
    if (!slot.hand.isEmpty) return
    const max = this.options.maxTasksPerChild
    if (max !== undefined && slot.tasks >= max) {
      this.edges.stop(this.#crew.stop(slot))
      this.#fill()
    } else {
      this.#crew.rest(slot)
      this.dispatch()
    }
    this.#settleState()
  }

  /** Gives waiting tasks to idle workers; also to be called when a client is no longer full. */
  dispatch(): void {
    for (;;) {
      const slot = this.#crew.longestIdle
      const task = slot && this.#queue.shift()
      if (!task) return
      this.#crew.work(slot)
      slot.hand.give(task, this.#estimates)
      this.edges.run(slot.id, [task], 0)
    }
  }

  get #busy(): boolean {
    return this.#ledger.open > 0 || (this.#holds > 0 && this.#state.kind === 'closing')
  }

  /** P4 */
  #fill(): void {
    if (this.#state.kind !== 'open' && !(this.#state.kind === 'closing' && this.#busy)) return
    for (const { id } of this.#crew.fill(this.options.processes)) this.edges.spawn(id, this.#crew.startDelayMs)
  }

  /** P7: where no work is left for a pool that takes none, its workers end; after the last one, so does the pool. */
  #settleState(): void {
    if (this.#state.kind === 'open' || this.#hasEnded) return
    if (this.#state.kind !== 'terminated' && !this.#busy) {
      if (this.#state.kind === 'closing') this.#state = { kind: 'closed' }
      for (const slot of this.#crew)
        if (slot.phase === 'idle' || slot.phase === 'starting') this.edges.stop(this.#crew.stop(slot))
    }
    if (this.#crew.size > 0) return
    // Where the pool has failed: what came back from its last workers.
    for (const task of this.#queue.drain()) this.#ledger.fail(task, refusal(this.#state))
    this.#hasEnded = true
    this.edges.ended()
  }
}
