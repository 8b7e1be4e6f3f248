import type { Client, Identity, Task } from './task.js'

/**
 * Tasks that wait for a worker, in a fair order: start-time fair queueing on two levels.
 *
 *   FairQueue ─▶ Rotation of Flows         one flow for each identity
 *                  └▶ Rotation of ClientQueues   one for each client of that identity
 *                       └▶ tasks, first in, first out
 *
 * Invariants; the tests cite the numbers.
 *  Q1 A task is in at most one list, and leaves it in constant time, from any position.
 *  Q2 Turns are for worker time, not for tasks: after its tasks have run for N ms, a flow waits until the others have
 *     had up to N ms each. The clients of one flow share it by the same rule.
 *  Q3 A flow or client without waiting tasks is in no rotation, but keeps its debt, up to MAX_DEBT_MS.
 *  Q4 A task that comes back (its worker died or handed it back) goes in front: it already had its turn. If a flow may
 *     have only so many workers, it goes in front of its own client's tasks only, because it waits for such a worker.
 */

/** A member whose turn is this close may take it now: tasks of microseconds are not worth comparing one by one. */
const SAME_TURN_MS = 1

/** With hundreds of members that each have little to do, a member waits for the work of at most this many others. */
const MAX_WAITED_FOR = 4

/** The longest debt of a member that comes back: work that it did long ago, while alone, is no reason to wait. */
const MAX_DEBT_MS = 1_000

/** A member of a rotation. */
interface Member {
  /** Its turn, on the clock of its rotation: members with an earlier turn go first. The rotation writes it. */
  turnAt: number
  /** At least one of its tasks may begin now. */
  readonly canBegin: boolean
}

/**
 * Members that take turns, and their virtual clock in milliseconds. The clock only moves when no member has a turn left
 * before it, and faster if there are many members.
 */
class Rotation<M extends Member> {
  #now = 0
  /** In the order of their last turn, the longest ago first. */
  readonly #members = new Set<M>()

  get size(): number {
    return this.#members.size
  }

  [Symbol.iterator](): Iterator<M> {
    return this.#members.values()
  }

  /** Adds a member that has waiting tasks again. */
  join(member: M): void {
    member.turnAt = Math.min(member.turnAt, this.#now + MAX_DEBT_MS)
    this.#members.add(member)
  }

  leave(member: M): void {
    this.#members.delete(member)
  }

  /**
   * The member whose turn it is, or undefined if none can begin anything. The answer stays the same until a member
   * joins, leaves, is moved back or charged.
   * @param also a member that counts as able to begin, whatever its `canBegin` says.
   */
  next(also?: M): M | undefined {
    return this.#due(also) ?? this.#soonest(also)
  }

  /** Puts a member behind the others whose turn it is too. */
  moveBack(member: M): void {
    if (this.#members.size > 1 && this.#members.delete(member)) this.#members.add(member)
  }

  /** A task of this member, which may have left the rotation, took this long. */
  charge(member: M, ms: number): void {
    member.turnAt = Math.max(member.turnAt, this.#now) + ms
    if (this.#members.size > MAX_WAITED_FOR) this.#now += ms / MAX_WAITED_FOR
  }

  #due(also: M | undefined): M | undefined {
    for (const member of this.#members) {
      if (member.turnAt <= this.#now + SAME_TURN_MS && (member === also || member.canBegin)) return member
    }
    return undefined
  }

  /** Nobody's turn has come yet: moves the clock to the next turn. */
  #soonest(also: M | undefined): M | undefined {
    let soonest = Number.POSITIVE_INFINITY
    for (const member of this.#members) {
      if (member === also || member.canBegin) soonest = Math.min(soonest, member.turnAt)
    }
    if (soonest === Number.POSITIVE_INFINITY) return undefined
    this.#now = soonest
    return this.#due(also)
  }
}

/** A doubly linked list through the tasks themselves. */
class TaskList {
  first: Task | undefined
  last: Task | undefined
  size = 0

  push(task: Task): void {
    task.list = this
    task.previous = this.last
    if (this.last) this.last.next = task
    else this.first = task
    this.last = task
    this.size++
  }

  unshift(task: Task): void {
    task.list = this
    task.next = this.first
    if (this.first) this.first.previous = task
    else this.last = task
    this.first = task
    this.size++
  }

  remove(task: Task): void {
    if (task.previous) task.previous.next = task.next
    else this.first = task.next
    if (task.next) task.next.previous = task.previous
    else this.last = task.previous
    task.list = undefined
    task.previous = undefined
    task.next = undefined
    this.size--
  }
}

/** The waiting tasks of one client. */
class ClientQueue extends TaskList implements Member {
  turnAt = 0
  #flow: Flow

  constructor(
    readonly client: Client,
    flow: Flow,
  ) {
    super()
    this.#flow = flow
  }

  get flow(): Flow {
    return this.#flow
  }

  get canBegin(): boolean {
    return !this.client.isFull
  }

  /** The client now calls under another identity (a session that came back on a new connection), whose clock differs. */
  moveTo(flow: Flow): void {
    if (flow !== this.#flow) this.turnAt = 0
    this.#flow = flow
  }

  charge(ms: number): void {
    this.flow.queues.charge(this, ms)
    this.flow.charge(ms)
  }
}

/** One identity's part of the workers' time, shared by its clients. */
export class Flow implements Member {
  turnAt = 0
  /** The queues of its clients that have waiting tasks. */
  readonly queues = new Rotation<ClientQueue>()
  /** Workers that have a task of this flow. Counted only if there is a limit. */
  #workers = 0

  constructor(
    readonly identity: Identity,
    private readonly rotation: Rotation<Flow>,
    private readonly maxWorkers: number,
  ) {}

  /** Waiting tasks of all its clients. */
  get size(): number {
    let size = 0
    for (const queue of this.queues) size += queue.size
    return size
  }

  /** An idle worker may take one of its tasks. */
  get canBegin(): boolean {
    return this.#workers < this.maxWorkers && this.hasReadyTask
  }

  /** A worker that it already has may take one of its tasks. */
  get hasReadyTask(): boolean {
    for (const queue of this.queues) if (queue.canBegin) return true
    return false
  }

  /** Counts a worker as this flow's until `releaseWorker`. */
  holdWorker(): void {
    this.#workers++
  }

  releaseWorker(): void {
    this.#workers--
  }

  charge(ms: number): void {
    this.rotation.charge(this, ms)
  }
}

export class FairQueue {
  readonly #rotation = new Rotation<Flow>()
  /** Of clients with waiting tasks. */
  readonly #queues = new Map<Client, ClientQueue>()
  /** Also without waiting tasks, as long as the identity or client lives: they keep the debt (Q3). */
  readonly #knownFlows = new WeakMap<Identity, Flow>()
  readonly #knownQueues = new WeakMap<Client, ClientQueue>()
  /** Tasks that came back (Q4). */
  readonly #front = new TaskList()
  #size = 0
  #bytes = 0

  /** @param maxWorkers how many workers a flow may have at once. */
  constructor(private readonly maxWorkers = Number.POSITIVE_INFINITY) {}

  /** Whether a flow may have only so many workers, so that it matters whose task a worker runs. */
  get isLimited(): boolean {
    return this.maxWorkers < Number.POSITIVE_INFINITY
  }

  get size(): number {
    return this.#size
  }

  /** Encoded argument bytes of all waiting tasks. */
  get bytes(): number {
    return this.#bytes
  }

  /** Waiting tasks of all clients of an identity, without those in front (Q4). */
  sizeOfIdentity(identity: Identity): number {
    return this.#knownFlows.get(identity)?.size ?? 0
  }

  push(task: Task): void {
    this.#open(task.job.client).push(task)
    this.#count(task, 1)
  }

  /** Puts a task that comes back in front (Q4). */
  unshift(task: Task): void {
    const list = this.isLimited ? this.#open(task.job.client) : this.#front
    list.unshift(task)
    this.#count(task, 1)
  }

  /**
   * The next task, which stays in the queue. Undefined if every waiting task has to go on waiting, because its client is
   * full or its flow has all the workers that it may have.
   */
  peek(): Task | undefined {
    return this.#front.first ?? this.#rotation.next()?.queues.next()?.first
  }

  /**
   * The next task for a worker that belongs to a flow. Undefined if another flow is next, unless that flow may have no
   * worker anyway.
   * @param isFirstTurn the worker became this flow's in this very turn, so the flow may fill its run queue.
   */
  peekOf(flow: Flow, isFirstTurn: boolean): Task | undefined {
    if (!flow.hasReadyTask || !(isFirstTurn || this.#rotation.next(flow) === flow)) return undefined
    return flow.queues.next()?.first
  }

  /** Takes out the task that `peek` returned. Returns the flow that its worker belongs to now, if there is a limit. */
  take(task: Task): Flow | undefined {
    const { list } = task
    this.remove(task)
    if (!(list instanceof ClientQueue)) return undefined
    task.payer = list
    list.flow.queues.moveBack(list)
    this.#rotation.moveBack(list.flow)
    return this.isLimited ? list.flow : undefined
  }

  /** Takes out every task, also those of full clients. */
  *drain(): Iterable<Task> {
    for (const list of [this.#front, ...this.#queues.values()]) {
      for (let { first } = list; first; { first } = list) {
        this.remove(first)
        yield first
      }
    }
  }

  /** Takes a task out from any position; false if it is not in the queue. */
  remove(task: Task): boolean {
    const { list } = task
    if (!(list instanceof TaskList)) return false
    list.remove(task)
    if (list instanceof ClientQueue && !list.first) this.#close(list)
    this.#count(task, -1)
    return true
  }

  #open(client: Client): ClientQueue {
    const { identity } = client
    const open = this.#queues.get(client)
    if (open?.flow.identity === identity) return open
    // The client calls under another identity now: its waiting tasks and its debt move along.
    if (open) this.#close(open)
    const flow = this.#flowOf(identity)
    const queue = this.#knownQueues.get(client) ?? new ClientQueue(client, flow)
    queue.moveTo(flow)
    this.#knownQueues.set(client, queue)
    this.#queues.set(client, queue)
    if (flow.queues.size === 0) this.#rotation.join(flow)
    flow.queues.join(queue)
    return queue
  }

  #flowOf(identity: Identity): Flow {
    const flow = this.#knownFlows.get(identity) ?? new Flow(identity, this.#rotation, this.maxWorkers)
    this.#knownFlows.set(identity, flow)
    return flow
  }

  #close(queue: ClientQueue): void {
    const { client, flow } = queue
    this.#queues.delete(client)
    flow.queues.leave(queue)
    if (flow.queues.size === 0) this.#rotation.leave(flow)
  }

  #count(task: Task, sign: 1 | -1): void {
    this.#size += sign
    this.#bytes += sign * task.bytes
  }
}
