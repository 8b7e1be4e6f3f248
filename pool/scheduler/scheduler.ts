import { Failure } from '../../wire/failure.js'
import { RETRY_MS } from '../../wire/protocol.js'
import { inPhase } from '../../wire/timeout.js'
import type { SchedulerEffects, SettledAs, TaskEvent } from './effects.js'
import { FairQueue } from './fair-queue.js'
import {
  crash,
  neverBegins,
  notRunAgain,
  noWorkers,
  type PoolState,
  refusal,
  terminated,
  type WorkerExit,
} from './pool-state.js'
import { Estimates } from './run-queue.js'
import { type Client, failed, type Identity, type Outcome, Task, type TaskRequest } from './task.js'
import { type WorkerSlot, WorkerTable } from './worker-table.js'

/**
 * Which task runs where: every decision of a pool, without a process, a socket or a timer. Events come in as method
 * calls. Actions go out through SchedulerEffects, which pool.ts connects to real workers and a unit test to a list.
 *
 *                 submit              dispatch, prefetch             done
 *      (caller) ──────────▶ queue ───────────────────────▶ run queue ─────▶ settled
 *                             │ ▲    crash, late, handed back │
 *                             │ └─────────────────────────────┤
 *                             └────────── end(reason) ────────┴───────────▶ settled
 *
 * The state of the pool:
 *
 *            #break               close           no work left
 *      broken ◀──▶ open ───────────────▶ closing ──────────────▶ closed
 *            ready  │ ╲ terminate      ╱    │
 *             #fail ▼  ▶ terminated ◀──      ▼ #fail, #break
 *                 failed                   failed
 *
 * Invariants; the tests cite the numbers.
 *  P1 A task is in exactly one place: the fair queue, one worker's run queue, or settled.
 *  P2 A task is settled once, by #settle. Whatever comes later finds it settled and changes nothing.
 *  P3 A worker gets no task before it is ready. It gets tasks ahead of time only of kinds that have run before, as many
 *     as are expected to take PREFETCH_MS together (or one of up to LONG_PREFETCH_MS, if many wait), and only while no
 *     idle worker could run them.
 *  P4 While the pool can accept or has work, its starting, idle and busy workers together are `processes`.
 *  P5 A worker whose current task was cancelled gets nothing more until it reports `done`.
 *  P6 A task whose worker died runs again if it had not begun (unless it kills workers, see #isFatal) or if `retries`
 *     allow it. Otherwise it fails.
 *  P7 closed, terminated and failed are final. A pool in one of them has ended when its last worker is gone.
 *  P8 Only the first task of a run queue can have begun. The others are taken back only after their begin-by time, once
 *     everything that the worker had reported by then has been read. The worker gets no more until it has handed them back.
 *  P9 If there is a limit of workers per flow, no flow has more. A worker belongs to a flow from its first task of that
 *     flow until its run queue is empty.
 *
 * Cancellation, a deadline, a dead client and the end of the pool are one event: end(task, reason).
 */

/** A pool fails, or breaks, when this many workers in a row die before they are ready. */
const START_ATTEMPTS = 3

/** A task fails when this many workers in a row die of being given it, before it begins. */
const BEGIN_ATTEMPTS = 3

/** Limits of what may wait in a pool. A task beyond them is refused with QUEUE_FULL. */
export interface QueueLimits {
  readonly maxQueued: number
  readonly maxQueuedPerClient: number
  /** Encoded argument bytes of all waiting tasks. */
  readonly maxQueuedBytes: number
}

export interface SchedulerOptions {
  readonly processes: number
  /** A worker is replaced after this many tasks; undefined for never. */
  readonly maxTasksPerChild: number | undefined
  /** Workers that one identity may have at once; undefined for all. */
  readonly maxRunningPerClient: number | undefined
  readonly limits: QueueLimits
}

export class Scheduler {
  readonly #queue: FairQueue
  readonly #estimates = new Estimates()
  readonly #workers = new WorkerTable()
  readonly #counters = { submitted: 0, succeeded: 0, failed: 0, cancelled: 0, retried: 0, timedOut: 0 }
  /** Tasks that are not settled. */
  #open = 0
  #nextTask = 1
  #state: PoolState = { kind: 'open' }
  /** Accepted requests that still bring tasks. */
  #holds = 0
  #hasEnded = false

  /** @param observe is called for each change of a task, if there is an observer. */
  constructor(
    private readonly options: SchedulerOptions,
    private readonly effects: SchedulerEffects,
    private readonly observe?: ((event: TaskEvent) => void) | undefined,
  ) {
    const { processes, maxRunningPerClient = processes } = options
    this.#queue = new FairQueue(maxRunningPerClient < processes ? maxRunningPerClient : undefined)
  }

  get state(): PoolState {
    return this.#state
  }

  get stats() {
    const { running, started } = this.#workers
    return {
      queued: this.#open - running,
      queuedBytes: this.#queue.bytes,
      running,
      workersStarted: started,
      ...this.#counters,
    }
  }

  /** The state of a worker; undefined if it is gone. */
  worker(id: number): Readonly<WorkerSlot> | undefined {
    return this.#workers.get(id)
  }

  /** Starts the workers. */
  start(): void {
    this.#fill()
  }

  // Tasks come and go.

  /**
   * Accepts a task; its owner is told the outcome exactly once.
   * @throws Failure POOL_CLOSED, POOL_TERMINATED, NO_WORKERS or the reason why the pool failed; QUEUE_FULL.
   */
  submit(request: TaskRequest): Task {
    this.#checkOpen(request.isHeld)
    if (!request.isHeld) this.#checkRoom(request.job.client)
    const task = new Task(this.#nextTask++, request)
    this.#counters.submitted++
    this.#open++
    this.observe?.({ kind: 'submitted', task })
    this.#queue.push(task)
    this.dispatch()
    return task
  }

  /** Tasks of all clients of this identity in the queue, without those that came back. */
  waiting(identity: Identity): number {
    return this.#queue.sizeOfIdentity(identity)
  }

  /**
   * Accepts a request that brings its tasks over time, also after close(). The caller calls the returned function once,
   * after its last task. @throws Failure as `submit`.
   */
  hold(): () => void {
    this.#checkOpen(false)
    this.#holds++
    return () => {
      this.#holds--
      this.#settleLifecycle()
    }
  }

  /** Ends a task from outside. In the queue, it is dropped; in a run queue, it is settled now and aborted in its worker. */
  end(task: Task, reason: Failure): void {
    if (task.settled) return
    const wasQueued = this.#queue.remove(task)
    const started = startOf(task, wasQueued)
    this.#cancel(task, inPhase(reason.of(started), task.started ? 'running' : 'queued'))
    if (wasQueued) return this.#settleLifecycle()
    for (const slot of this.#workers) {
      if (!slot.runQueue.has(task)) continue
      this.effects.abort(slot.id, task, reason)
      this.#hurry(slot)
    }
  }

  /** Gives waiting tasks to idle workers. Also called when a client is no longer full. */
  dispatch(): void {
    for (;;) {
      const slot = this.#workers.longestIdle
      const task = slot && this.#queue.peek()
      if (!task) return
      this.#workers.setBusy(slot)
      slot.runQueue.assign(task, this.#estimates, this.#queue.take(task))
      this.observe?.({ kind: 'assigned', task, worker: slot.id, prefetched: false })
      this.effects.run(slot.id, [task], 0)
    }
  }

  // Prefetching (P3, P8).

  /** Fills the run queues of busy workers, evenly. Returns whether any worker got a task. */
  prefetch(now: number): boolean {
    if (this.#queue.size === 0) return false
    // Idle workers come first. With a limit per flow, some may stay idle; and a client may have stopped being full unnoticed.
    if (this.#queue.isLimited) this.dispatch()
    else if (this.#workers.hasIdle) return false
    let any = false
    for (const [{ id }, tasks] of this.#workers.prefetch(
      this.#queue,
      this.#estimates,
      this.options.maxTasksPerChild,
      now,
    )) {
      if (this.observe) for (const task of tasks) this.observe({ kind: 'assigned', task, worker: id, prefetched: true })
      this.effects.run(id, tasks, tasks[0]?.beginBy ?? 0)
      any = true
    }
    return any
  }

  get hasPrefetched(): boolean {
    return this.#workers.hasPrefetched
  }

  /** Workers with prefetched tasks past their begin-by time. Before takeBackLate, the caller reads all they have sent (P8). */
  late(now: number): number[] {
    return [...this.#workers].filter(({ runQueue }) => runQueue.isLate(now)).map(({ id }) => id)
  }

  /** Takes late tasks of a worker back into the queue. */
  takeBackLate(workerId: number, now: number): void {
    const back = this.#workers.get(workerId)?.runQueue.takeBackLate(this.#queue, now) ?? []
    if (this.observe) for (const task of back) this.observe({ kind: 'handed-back', task, worker: workerId })
    this.dispatch()
  }

  // What workers report.

  ready(workerId: number): void {
    const slot = this.#workers.get(workerId)
    if (slot?.phase !== 'starting') return
    this.#workers.becameReady(slot)
    if (this.#state.kind === 'broken') this.#state = { kind: 'open' }
    this.#rest(slot)
    this.#fill()
  }

  /** The worker's modules or initializer failed. Once all workers have been ready, that is worth more attempts. */
  initFailed(workerId: number, failure: Failure): void {
    const slot = this.#workers.get(workerId)
    // Ignored after ready: it proves nothing about other workers.
    if (slot?.phase !== 'starting') return
    this.#workers.startFailed(slot)
    if (!this.#workers.wasReady) this.#fail(failure)
    else if (this.#workers.deadStarts >= START_ATTEMPTS) this.#break(failure)
    this.#fill()
    this.#settleLifecycle()
  }

  started(workerId: number, taskId: number): void {
    const task = this.#workers.get(workerId)?.runQueue.first
    if (task?.id === taskId) this.#begin(task, workerId)
  }

  /** @param items how many items of the chunk have ended. */
  progressed(workerId: number, taskId: number, items: number): void {
    const task = this.#workers.get(workerId)?.runQueue.first
    if (task?.id === taskId) task.itemsDone = items
  }

  /** A task has ended. A worker runs its tasks in order, so a report about any but its first task comes too late. */
  done(workerId: number, taskId: number, outcome: Outcome, ranMs: number): void {
    const slot = this.#workers.get(workerId)
    if (!slot) return
    const task = slot.runQueue.first
    if (task?.id === taskId) {
      slot.runQueue.finishFirst()
      this.#workers.finishedTask(slot)
      if (!task.settled) this.#estimates.learn(task, ranMs)
      this.#settle(task, outcome, outcome.ok ? 'succeeded' : 'failed', ranMs)
      const next = slot.runQueue.first
      if (next) this.#begin(next, workerId)
      this.#hurry(slot)
    } else slot.runQueue.forget(taskId)
    if (slot.phase === 'busy') this.#rest(slot)
  }

  /** The worker has skipped these tasks, because their begin-by time had passed. */
  handedBack(workerId: number, taskIds: readonly number[]): void {
    const slot = this.#workers.get(workerId)
    if (!slot) return
    for (const task of slot.runQueue.handedBack(this.#queue, taskIds)) {
      this.observe?.({ kind: 'handed-back', task, worker: workerId })
      this.effects.waits(task)
    }
    this.#hurry(slot)
    if (slot.phase === 'busy') this.#rest(slot)
    this.dispatch()
  }

  /** The worker asks to be replaced, after the tasks that it has. */
  retire(workerId: number): void {
    const slot = this.#workers.get(workerId)
    if (!slot) return
    slot.isRetiring = true
    if (slot.phase === 'idle') this.#rest(slot)
  }

  exited(workerId: number, exit: WorkerExit): void {
    const slot = this.#workers.get(workerId)
    if (!slot) return
    const isDeadStart = this.#workers.remove(slot, exit)
    this.#recover(slot, exit)
    if (isDeadStart && this.#workers.deadStarts >= START_ATTEMPTS) {
      const failure = noWorkers(this.#workers.deadStarts, exit)
      if (this.#workers.wasReady) this.#break(failure)
      else this.#fail(failure)
    }
    this.#fill()
    this.dispatch()
    this.#settleLifecycle()
  }

  // The lifecycle of the pool.

  /** Accepts no more tasks; completes the ones that it has. */
  close(): void {
    if (this.#state.kind !== 'open' && this.#state.kind !== 'broken') return
    this.#state = { kind: 'closing' }
    this.#settleLifecycle()
  }

  /** Cancels every task and kills every worker. @param how what happens to the pool, for the failures of its tasks. */
  terminate(how = 'was terminated'): void {
    if (this.#state.kind === 'terminated' || (this.#state.kind === 'closed' && this.#hasEnded)) return
    // A failed pool stays failed, so that late callers hear why.
    if (this.#state.kind !== 'failed') this.#state = { kind: 'terminated' }
    for (const task of this.#queue.drain()) this.#cancel(task, terminated(task, startOf(task, true), how))
    for (const slot of this.#workers) {
      for (const task of slot.runQueue) this.#cancel(task, terminated(task, startOf(task, false), how))
      this.effects.kill(slot.id)
    }
    this.#settleLifecycle()
  }

  /** Its workers cannot start, and never could. */
  #fail(failure: Failure): void {
    if (!this.#canRun) return
    this.#state = { kind: 'failed', failure }
    this.#failQueued(failure)
  }

  /** Its workers keep dying early. Since they could start once, the pool keeps trying. */
  #break(failure: Failure): void {
    if (this.#state.kind !== 'open' && this.#state.kind !== 'broken') return this.#fail(failure)
    this.#state = { kind: 'broken', failure }
    this.#failQueued(failure)
  }

  #failQueued(failure: Failure): void {
    for (const task of this.#queue.drain()) {
      this.#settle(task, failed(task.crash ? notRunAgain(task.crash, failure) : failure), 'failed', undefined)
    }
  }

  /** P7: a pool that accepts nothing and has no work left stops its workers; after the last one, it has ended. */
  #settleLifecycle(): void {
    if (this.#state.kind === 'open' || this.#state.kind === 'broken' || this.#hasEnded) return
    if (this.#state.kind !== 'terminated' && !this.#hasWork) {
      if (this.#state.kind === 'closing') this.#state = { kind: 'closed' }
      for (const slot of this.#workers) if (slot.phase === 'idle' || slot.phase === 'starting') this.#stop(slot)
    }
    if (this.#workers.size > 0) return
    // In a failed pool: tasks that came back from its last workers.
    this.#failQueued(refusal(this.#state))
    this.#hasEnded = true
    this.effects.ended()
  }

  get #hasWork(): boolean {
    return this.#open > 0 || (this.#holds > 0 && this.#state.kind === 'closing')
  }

  /** Whether a task whose worker died can run again. */
  get #canRun(): boolean {
    return this.#state.kind === 'open' || this.#state.kind === 'closing' || this.#state.kind === 'broken'
  }

  #checkOpen(isHeld: boolean): void {
    if (this.#state.kind === 'open' || (isHeld && this.#state.kind === 'closing')) return
    throw refusal(this.#state)
  }

  /** Throws QUEUE_FULL. The limits may be exceeded by the size of one request: they are checked before it. */
  #checkRoom(client: Client): void {
    const { maxQueued, maxQueuedBytes, maxQueuedPerClient } = this.options.limits
    const { size, bytes } = this.#queue
    if (size >= maxQueued) throw queueFull(size, 'tasks', maxQueued, 'pool')
    if (bytes >= maxQueuedBytes) throw queueFull(bytes, 'bytes', maxQueuedBytes, 'pool')
    if (client.isPaced || size < maxQueuedPerClient) return
    const mine = this.waiting(client.identity)
    if (mine >= maxQueuedPerClient) throw queueFull(mine, 'tasks', maxQueuedPerClient, 'client')
  }

  // Workers.

  /** P4: starts the workers that are missing. A broken pool tries with one. */
  #fill(): void {
    const { processes } = this.options
    const { kind } = this.#state
    const isOpen = kind === 'open' || (kind === 'closing' && this.#hasWork)
    const wanted = isOpen ? processes : kind === 'broken' ? 1 : 0
    for (const { id } of this.#workers.fill(wanted)) this.effects.spawn(id, this.#workers.startDelayMs(processes))
  }

  #stop(slot: WorkerSlot): void {
    this.#workers.setStopping(slot)
    this.effects.stop(slot.id)
  }

  /** A worker with an empty run queue is replaced, or takes the next task, or becomes idle. */
  #rest(slot: WorkerSlot): void {
    if (!slot.runQueue.isEmpty) return
    const max = this.options.maxTasksPerChild
    if (slot.isRetiring || (max !== undefined && slot.finished >= max)) {
      this.#stop(slot)
      this.#fill()
    } else this.#workers.setIdle(slot)
    this.dispatch()
    this.#settleLifecycle()
  }

  /** If the worker's current task was cancelled, it must end within the grace, unless its function forbids that. */
  #hurry({ id, runQueue: { first } }: WorkerSlot): void {
    if (first?.settled && !first.job.neverKilled) this.effects.overdue(id)
  }

  // Crash recovery (P6).

  /** Decides what becomes of the tasks of a worker that has died. */
  #recover({ id, runQueue }: WorkerSlot, exit: WorkerExit): void {
    const { first } = runQueue
    // From the last to the first, because each goes in front of the queue.
    for (const task of [...runQueue].reverse()) {
      if (task.settled) continue
      if (task.started) this.#crashed(task, id, exit)
      else if (task === first && this.#isFatal(task, id)) {
        this.#settle(task, failed(neverBegins(task, exit)), 'failed', undefined)
      } else {
        this.#queue.unshift(task)
        this.observe?.({ kind: 'handed-back', task, worker: id })
      }
    }
    runQueue.release()
  }

  /** The worker died while it ran this task. */
  #crashed(task: Task, worker: number, exit: WorkerExit): void {
    const failure = crash(task, exit)
    if (!this.#canRun || task.attempt > task.job.retries) {
      return this.#settle(task, failed(failure), 'failed', undefined)
    }
    task.attempt++
    task.crash = failure
    task.waitsUntil = 0
    task.itemsDone = 0
    task.resetStart()
    this.#counters.retried++
    this.#queue.unshift(task)
    this.observe?.({ kind: 'retried', task, worker, crash: failure })
    this.effects.waits(task)
  }

  /**
   * Whether workers die of receiving this task, because of its size for example. Of several workers that die together
   * only one counts, so the next to count must have been started after the last that did.
   */
  #isFatal(task: Task, worker: number): boolean {
    if (worker <= task.fatalUpTo) return false
    task.fatalUpTo = this.#workers.started
    return ++task.fatalWorkers >= BEGIN_ATTEMPTS
  }

  // Tasks.

  #begin(task: Task, worker: number): void {
    if (task.started) return
    task.started = true
    task.fatalWorkers = 0
    this.observe?.({ kind: 'started', task, worker })
    if (!task.settled) this.effects.began(task)
  }

  #cancel(task: Task, failure: Failure): void {
    this.#settle(task, failed(failure), failure.reason === 'TASK_TIMEOUT' ? 'timedOut' : 'cancelled', undefined)
  }

  /** P2: the only place that settles a task. */
  #settle(task: Task, outcome: Outcome, as: SettledAs, ranMs: number | undefined): void {
    if (task.settled) return
    this.#counters[as]++
    this.#open--
    task.settle(outcome)
    this.observe?.({ kind: 'settled', task, as, outcome, ranMs })
  }
}

/** Whether a cancelled task had started. In a run queue it may have begun before that was reported. */
const startOf = (task: Task, wasQueued: boolean): boolean | 'unknown' =>
  wasQueued ? task.attempt > 1 : task.started || 'unknown'

function queueFull(waiting: number, what: 'tasks' | 'bytes', limit: number, of: 'pool' | 'client'): Failure {
  const whose = of === 'pool' ? 'in the pool' : 'of this client'
  return new Failure('QUEUE_FULL', `${waiting} ${what} ${whose} wait already; at most ${limit} may. Try again later`, {
    retryDelayMs: RETRY_MS,
    metadata: { limit: String(limit), of, what },
  })
}
