import { Failure } from '../../wire/failure.js'
import { RETRY_MS } from '../../wire/protocol.js'
import type { Edges } from './effects.js'
import { TaskQueue } from './fair-queue.js'
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
import { type Client, failed, type Job, type Outcome, type Owner, Task } from './task.js'
import { Crew, type Slot } from './worker-table.js'

/** A worker that dies so often in a row before it is ready makes its pool fail. */
const START_ATTEMPTS = 3

/** A task fails when so many workers in a row have died of being given it, before it began. */
const BEGIN_ATTEMPTS = 3

/** The tasks that a pool has accepted: how many, and what became of them. Each is settled once. */
export class Ledger {
  readonly counters = { submitted: 0, succeeded: 0, failed: 0, cancelled: 0, retried: 0 }
  #next = 1
  #open = 0

  /** How many have not been settled. */
  get open(): number {
    return this.#open
  }

  accept(
    job: Job,
    args: readonly Uint8Array[] | undefined,
    chunk: Uint8Array | undefined,
    owner: Owner,
    key: number,
  ): Task {
    this.counters.submitted++
    this.#open++
    return new Task(this.#next++, job, args, chunk, owner, key)
  }

  /** A worker has said what became of it. */
  done(task: Task, outcome: Outcome): void {
    this.#settle(task, outcome, outcome.ok ? 'succeeded' : 'failed')
  }

  fail(task: Task, failure: Failure): void {
    this.#settle(task, failed(failure), 'failed')
  }

  cancel(task: Task, failure: Failure): void {
    this.#settle(task, failed(failure), 'cancelled')
  }

  /** It is run again, in spite of this. */
  retry(task: Task, crash: Failure): void {
    task.attempt++
    task.crash = crash
    task.waitsUntil = 0
    task.itemsDone = 0
    task.putBack()
    this.counters.retried++
  }

  #settle(task: Task, outcome: Outcome, as: 'succeeded' | 'failed' | 'cancelled'): void {
    if (task.settled) return
    this.counters[as]++
    this.#open--
    task.settle(outcome)
  }
}

/** How much may wait in a pool. */
export interface QueueLimits {
  /** Tasks of all clients, and of one. */
  readonly maxQueued: number
  readonly maxQueuedPerClient: number
  /** Bytes of the arguments of all that wait. */
  readonly maxQueuedBytes: number
}

/** Whether a queue has room for one more. What is already over a limit by one request's worth is let be. */
export class Room {
  constructor(
    private readonly queue: TaskQueue,
    private readonly limits: QueueLimits,
  ) {}

  /** Throws QUEUE_FULL, which says what is full. */
  check(client: Client): void {
    const { queue, limits } = this
    if (queue.size >= limits.maxQueued) throw full(queue.size, 'tasks', limits.maxQueued, 'pool')
    if (queue.bytes >= limits.maxQueuedBytes) throw full(queue.bytes, 'bytes', limits.maxQueuedBytes, 'pool')
    // A stream of calls is not refused but read no further (rpc/calls.ts). And no client has more than all have.
    if ((typeof client !== 'string' && client.isHeldBack) || queue.size < limits.maxQueuedPerClient) return
    const mine = queue.sizeOf(client)
    if (mine >= limits.maxQueuedPerClient) throw full(mine, 'tasks', limits.maxQueuedPerClient, 'client')
  }
}

function full(waiting: number, what: 'tasks' | 'bytes', limit: number, of: 'pool' | 'client'): Failure {
  const whose = of === 'pool' ? 'in the pool' : 'of this client'
  return new Failure('QUEUE_FULL', `${waiting} ${what} ${whose} wait already; at most ${limit} may. Try again later`, {
    retryDelayMs: RETRY_MS,
    metadata: { limit: String(limit), of, what },
  })
}

/**
 * Whether a pool takes tasks, and what becomes of those that it has when it does not (P4, P7):
 *
 *        break                close            no work left
 *   broken ◀──▶ open ─────────────▶ closing ─────────────────▶ closed
 *        recover │ ╲ terminate     ╱    │
 *           fail ▼  ▶ terminated ◀      ▼ fail, break
 *             failed                 failed
 */
export class Life {
  #state: PoolState = { kind: 'open' }
  /** Requests that were accepted and still bring tasks. */
  #holds = 0
  #hasEnded = false

  constructor(
    private readonly queue: TaskQueue,
    private readonly crew: Crew,
    private readonly ledger: Ledger,
    private readonly edges: Edges,
  ) {}

  get state(): PoolState {
    return this.#state
  }

  /** Throws the Failure that says why a task is not accepted; one of a request that holds the pool is, while it closes. */
  check(held: boolean): void {
    if (this.#state.kind !== 'open' && !(held && this.#state.kind === 'closing')) throw refusal(this.#state)
  }

  hold(): () => void {
    this.check(false)
    this.#holds++
    return () => {
      this.#holds--
      this.settle()
    }
  }

  /** How many workers there should be. A broken pool tries with one. */
  wanted(processes: number): number {
    if (this.#state.kind === 'open' || (this.#state.kind === 'closing' && this.#isBusy)) return processes
    return this.#state.kind === 'broken' ? 1 : 0
  }

  /** Whether a task whose worker died can run again. */
  get runs(): boolean {
    return this.#state.kind === 'open' || this.#state.kind === 'closing' || this.#state.kind === 'broken'
  }

  close(): void {
    if (this.#state.kind !== 'open' && this.#state.kind !== 'broken') return
    this.#state = { kind: 'closing' }
    this.settle()
  }

  terminate(): void {
    if (this.#state.kind === 'terminated' || (this.#state.kind === 'closed' && this.#hasEnded)) return
    // Whoever still calls one that has failed is to hear why, as long as its processes die.
    if (this.#state.kind !== 'failed') this.#state = { kind: 'terminated' }
    for (const task of this.queue.drain()) this.ledger.cancel(task, terminated(task, task.attempt > 1))
    for (const slot of this.crew) {
      // One in a hand may have begun before that was heard here.
      for (const task of slot.hand) this.ledger.cancel(task, terminated(task, task.started || 'unknown'))
      this.edges.kill(slot.id)
    }
    this.settle()
  }

  /** Its workers cannot start, and never will. */
  fail(failure: Failure): void {
    if (!this.runs) return
    this.#state = { kind: 'failed', failure }
    this.#failQueued(failure)
  }

  /** Its workers die as soon as they start. One that could once may again: it goes on trying. */
  break(failure: Failure): void {
    if (this.#state.kind !== 'open' && this.#state.kind !== 'broken') return this.fail(failure)
    this.#state = { kind: 'broken', failure }
    this.#failQueued(failure)
  }

  /** A worker is ready. */
  recover(): void {
    if (this.#state.kind === 'broken') this.#state = { kind: 'open' }
  }

  /** P7: where no work is left for a pool that takes none, its workers end; after the last one, so does the pool. */
  settle(): void {
    if (this.#state.kind === 'open' || this.#state.kind === 'broken' || this.#hasEnded) return
    if (this.#state.kind !== 'terminated' && !this.#isBusy) {
      if (this.#state.kind === 'closing') this.#state = { kind: 'closed' }
      for (const slot of this.crew)
        if (slot.phase === 'idle' || slot.phase === 'starting') this.edges.stop(this.crew.stop(slot))
    }
    if (this.crew.size > 0) return
    // Where the pool has failed: what came back from its last workers.
    this.#failQueued(refusal(this.#state))
    this.#hasEnded = true
    this.edges.ended()
  }

  get #isBusy(): boolean {
    return this.ledger.open > 0 || (this.#holds > 0 && this.#state.kind === 'closing')
  }

  #failQueued(failure: Failure): void {
    for (const task of this.queue.drain()) {
      this.ledger.fail(task, task.crash ? notRunAgain(task.crash, failure) : failure)
    }
  }
}

/** What becomes of the tasks in the hand of a worker that has died (P6). */
export class Losses {
  constructor(
    private readonly queue: TaskQueue,
    private readonly crew: Crew,
    private readonly ledger: Ledger,
    private readonly life: Life,
    private readonly edges: Edges,
  ) {}

  take(slot: Slot, exit: WorkerExit): void {
    const { first } = slot.hand
    for (const task of [...slot.hand].reverse()) {
      if (task.settled) continue
      if (task.started) this.#crashed(task, exit)
      else if (task === first && this.#isFatal(slot, task)) this.ledger.fail(task, neverBegins(task, exit))
      else this.queue.unshift(task)
    }
    slot.hand.leave()
  }

  #crashed(task: Task, exit: WorkerExit): void {
    const failure = crash(task, exit)
    if (!this.life.runs || task.attempt > task.job.retries) return this.ledger.fail(task, failure)
    this.ledger.retry(task, failure)
    this.queue.unshift(task)
    this.edges.waits(task)
  }

  /**
   * Whether workers die of being given the task (of its size, say). Only such count as were started after the last that did:
   * whatever ends all workers at once is not the task's fault.
   */
  #isFatal(slot: Slot, task: Task): boolean {
    if (slot.id <= task.fatalUpTo) return false
    task.fatalUpTo = this.crew.started
    return ++task.fatalities >= BEGIN_ATTEMPTS
  }
}

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
 *     to take PREFETCH_MS together (or one of LONG_PREFETCH_MS, from a deep queue), and only while no worker is idle that could run it.
 *  P4 Starting, idle and busy workers together are `processes`, as long as the pool can still get or has work.
 *  P5 A worker whose task was ended from outside gets the next task only after it has said done, or never.
 *  P6 A task whose worker died runs again if it never started (unless workers die of it, losses.ts), or if `retries` allow
 *     it; otherwise it fails.
 *  P7 closed, terminated and failed are final (life.ts); a pool without workers in one of them has ended.
 *  P8 Only the first in a hand can have begun. The others are reclaimed only when their lease has passed and all that
 *     the worker had said by then has been heard; until it has returned them, it gets no others.
 *  P9 Where there is a limit, no connection has more workers: one is its own from the first task until it has nothing in hand.
 *
 * Cancellation, deadline, the caller's death and the pool's end are one event: end(task, reason).
 */

export interface SchedulerOptions {
  readonly processes: number
  /** A worker is replaced after so many tasks; undefined for never. */
  readonly maxTasksPerChild: number | undefined
  /** How many workers a connection may have at once; undefined for all. */
  readonly maxRunningPerClient: number | undefined
  readonly limits: QueueLimits
}

export class Scheduler {
  readonly #queue: TaskQueue
  readonly #estimates = new Estimates()
  readonly #crew = new Crew()
  readonly #ledger = new Ledger()
  readonly #life: Life
  readonly #losses: Losses
  readonly #room: Room

  constructor(
    private readonly options: SchedulerOptions,
    private readonly edges: Edges,
  ) {
    const { processes, maxRunningPerClient = processes } = options
    this.#queue = new TaskQueue(maxRunningPerClient < processes ? maxRunningPerClient : undefined)
    this.#life = new Life(this.#queue, this.#crew, this.#ledger, edges)
    this.#losses = new Losses(this.#queue, this.#crew, this.#ledger, this.#life, edges)
    this.#room = new Room(this.#queue, options.limits)
  }

  get state(): PoolState {
    return this.#life.state
  }
  get stats() {
    const { running, started } = this.#crew
    const { open, counters } = this.#ledger
    return { queued: open - running, queuedBytes: this.#queue.bytes, running, workersStarted: started, ...counters }
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
    return this.#life.hold()
  }

  /**
   * Accepts a task, of a request that holds the pool where `held`: that has been let in, and only its first is refused
   * for want of room. Throws the Failure that says why not. `owner.settled(key, …)` is called exactly once.
   */
  submit(
    job: Job,
    args: readonly Uint8Array[] | undefined,
    chunk: Uint8Array | undefined,
    owner: Owner,
    key: number,
    held = false,
  ): Task {
    this.#life.check(held)
    if (!held) this.#room.check(job.client)
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
    // One in a hand may have begun before that was heard here.
    const started = wasQueued ? task.attempt > 1 : task.started || 'unknown'
    this.#ledger.cancel(task, new Failure(why, message, { started, metadata }))
    if (wasQueued) return this.#life.settle()
    for (const slot of this.#crew) {
      if (!slot.hand.has(task)) continue
      this.edges.abort(slot.id, task, reason)
      this.#hurry(slot)
    }
  }

  ready(workerId: number): void {
    const slot = this.#crew.get(workerId)
    if (slot?.phase !== 'starting') return
    this.#crew.ready(slot)
    this.#life.recover()
    this.#rest(slot)
    this.#fill()
  }

  /** The worker's modules or initializer failed: another fares better only where others have before. */
  initFailed(workerId: number, failure: Failure): void {
    const slot = this.#crew.get(workerId)
    // One that has been ready may say so too, and end: that no worker can be is not to be had from it.
    if (slot?.phase !== 'starting') return
    this.#crew.startFailed(slot)
    if (!this.#crew.wasReady) this.#life.fail(failure)
    else if (this.#crew.deadStarts >= START_ATTEMPTS) this.#life.break(failure)
    this.#fill()
    this.#life.settle()
  }

  started(workerId: number, taskId: number): void {
    const task = this.#crew.get(workerId)?.hand.first
    if (task?.id === taskId) this.#begin(task)
  }

  /** How many items of a chunk have ended. */
  progressed(workerId: number, taskId: number, items: number): void {
    const task = this.#crew.get(workerId)?.hand.first
    if (task?.id === taskId) task.itemsDone = items
  }

  /** The worker is to be replaced when it has done what it has in hand. */
  retire(workerId: number): void {
    const slot = this.#crew.get(workerId)
    if (!slot) return
    slot.isRetiring = true
    if (slot.phase === 'idle') this.#rest(slot)
  }
  /** A worker runs what it has in order: what comes for another task than the first of its hand comes too late. */
  done(workerId: number, taskId: number, outcome: Outcome, ranMs: number): void {
    const slot = this.#crew.get(workerId)
    const task = slot?.hand.first
    if (!slot) return
    if (task?.id !== taskId) {
      slot.hand.forget(taskId)
      // It may have been the last that its worker was waited for.
      if (slot.phase === 'busy') this.#rest(slot)
      return
    }
    slot.hand.drop()
    this.#crew.didTask(slot)
    if (!task.settled) this.#estimates.learn(task, ranMs)
    this.#ledger.done(task, outcome)
    this.#first(slot)
    if (slot.phase === 'busy') this.#rest(slot)
  }

  /** The worker has not begun these in time, and will not. */
  returned(workerId: number, taskIds: readonly number[]): void {
    const slot = this.#crew.get(workerId)
    if (!slot) return
    for (const task of slot.hand.returned(this.#queue, taskIds)) this.edges.waits(task)
    this.#hurry(slot)
    if (slot.phase === 'busy') this.#rest(slot)
    this.dispatch()
  }

  exited(workerId: number, exit: WorkerExit): void {
    const slot = this.#crew.get(workerId)
    if (!slot) return
    const isDeadStart = this.#crew.remove(slot, exit)
    this.#losses.take(slot, exit)
    if (isDeadStart && this.#crew.deadStarts >= START_ATTEMPTS) {
      const failure = noWorkers(this.#crew.deadStarts, exit)
      if (this.#crew.wasReady) this.#life.break(failure)
      else this.#life.fail(failure)
    }
    this.#fill()
    this.dispatch()
    this.#life.settle()
  }

  /** Fills the hands of busy workers from the queue, evenly: at the end of a turn. Tells whether anything has been lent. */
  feed(now: number): boolean {
    if (this.#queue.size === 0) return false
    // Workers may stay idle for somebody else; but whoever may have one gets it first: a client can stop being full unnoticed.
    if (this.#queue.isLimited) this.dispatch()
    else if (this.#crew.hasIdle) return false
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
    this.#life.close()
  }

  terminate(): void {
    this.#life.terminate()
  }

  /** The next in hand begins, for all that is known here. */
  #first(slot: Slot): void {
    const task = slot.hand.first
    if (task) this.#begin(task)
    this.#hurry(slot)
  }

  #begin(task: Task): void {
    if (task.started) return
    task.started = true
    task.fatalities = 0
    if (!task.settled) this.edges.began(task)
  }

  /** Where it may be running a task that was ended, it has to end soon, or be killed; unless the function forbids that. */
  #hurry({ id, hand }: Slot): void {
    if (hand.first?.settled && !hand.first.job.neverKilled) this.edges.overdue(id)
  }

  /** A worker that has nothing in hand is recycled, or takes the next task, or waits. */
  #rest(slot: Slot): void {
    if (!slot.hand.isEmpty) return
    const max = this.options.maxTasksPerChild
    if (slot.isRetiring || (max !== undefined && slot.tasks >= max)) {
      this.edges.stop(this.#crew.stop(slot))
      this.#fill()
    } else this.#crew.rest(slot)
    this.dispatch()
    this.#life.settle()
  }

  /** Gives waiting tasks to idle workers; also to be called when a client is no longer full. */
  dispatch(): void {
    for (;;) {
      const slot = this.#crew.longestIdle
      const task = slot && this.#queue.peek()
      if (!task) return
      this.#crew.work(slot)
      slot.hand.give(task, this.#estimates, this.#queue.take(task))
      this.edges.run(slot.id, [task], 0)
    }
  }

  /** P4 */
  #fill(): void {
    for (const { id } of this.#crew.fill(this.#life.wanted(this.options.processes)))
      this.edges.spawn(id, this.#crew.startDelayMs(this.options.processes))
  }
}
