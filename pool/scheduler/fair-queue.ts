import { type Client, connectionOf, type Task } from './task.js'

/** So long before its time a member has its turn all the same: tasks of microseconds need not be compared one by one. */
const TURN_MS = 1

/**
 * What a member's tasks have taken it gives back: the others have as much each before its next turn, but no more than
 * so many of them. Where there are hundreds, each with a little, nobody waits until all of them have had that.
 */
const MAX_SHARERS = 4

/**
 * Whoever has nothing waiting for a moment, because each of its tasks comes when one before has ended, still lets the others
 * go first; but what it has run long ago, alone, is no reason to wait for ever.
 */
const MAX_DEBT_MS = 1_000

/** Somebody who takes turns with others: for time, not for tasks. */
export interface Member {
  /** By the clock of its round: before it, others go first. */
  nextTurn: number
  /** It has something that can begin. */
  readonly canBegin: boolean
}

/** Those who take turns, and their clock, in milliseconds: it goes on when nobody has a turn before, and faster where they are many. */
export class Round<M extends Member> {
  #now = 0
  /** The one that is next first. */
  readonly #members = new Set<M>()

  get size(): number {
    return this.#members.size
  }

  [Symbol.iterator](): Iterator<M> {
    return this.#members.values()
  }

  /** One that has something waiting again. */
  join(member: M): void {
    member.nextTurn = Math.min(member.nextTurn, this.#now + MAX_DEBT_MS)
    this.#members.add(member)
  }

  leave(member: M): void {
    this.#members.delete(member)
  }

  /**
   * Whose turn it is; the same until somebody joins, leaves, moves or pays. Undefined where none can begin anything.
   * @param also one that can, whatever it says of itself.
   */
  next(also?: M): M | undefined {
    return this.#due(also) ?? this.#soonest(also)
  }

  /** It has had its turn: the others that have one too go first. */
  moveBack(member: M): void {
    if (this.#members.size > 1 && this.#members.delete(member)) this.#members.add(member)
  }

  /** A task of one, also of one that has left, has taken so long. */
  paid(member: M, ms: number): void {
    member.nextTurn = Math.max(member.nextTurn, this.#now) + ms
    if (this.#members.size > MAX_SHARERS) this.#now += ms / MAX_SHARERS
  }

  #due(also: M | undefined): M | undefined {
    for (const member of this.#members) {
      if (member.nextTurn <= this.#now + TURN_MS && (member === also || member.canBegin)) return member
    }
    return undefined
  }

  /** Nobody has a turn before: who has the next one has it now. */
  #soonest(also: M | undefined): M | undefined {
    let soonest = Number.POSITIVE_INFINITY
    for (const member of this.#members)
      if (member === also || member.canBegin) soonest = Math.min(soonest, member.nextTurn)
    if (soonest === Number.POSITIVE_INFINITY) return undefined
    this.#now = soonest
    return this.#due(also)
  }
}

/** What a connection has of the workers' time, however many clients it is: its RPCs and its streams take turns in it. */
export class Share implements Member {
  nextTurn = 0
  /** Of those that have tasks waiting. */
  readonly lines = new Round<Line>()
  /** Counted where there is a limit of it. */
  #workers = 0

  /**
   * @param round where it takes turns with others.
   * @param maxWorkers how many workers it may have at once.
   */
  constructor(
    readonly connection: object | string,
    private readonly round: Round<Share>,
    private readonly maxWorkers: number,
  ) {}

  /** How many tasks wait. */
  get size(): number {
    let size = 0
    for (const line of this.lines) size += line.size
    return size
  }

  /** Whether a worker can begin something of it that has nothing to do. */
  get canBegin(): boolean {
    return this.#workers < this.maxWorkers && this.canGoOn
  }

  /** Whether a worker that it has can. */
  get canGoOn(): boolean {
    for (const line of this.lines) if (line.canBegin) return true
    return false
  }

  /** It has a worker more, until `release`. */
  hold(): void {
    this.#workers++
  }

  release(): void {
    this.#workers--
  }

  paid(ms: number): void {
    this.round.paid(this, ms)
  }
}

/** Tasks as a doubly linked list: any of them leaves at once, however many wait. */
export class TaskList {
  first: Task | undefined
  last: Task | undefined
  size = 0

  push(task: Task): void {
    task.line = this
    task.previous = this.last
    if (this.last) this.last.next = task
    else this.first = task
    this.last = task
    this.size++
  }

  unshift(task: Task): void {
    task.line = this
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
    task.line = undefined
    task.previous = undefined
    task.next = undefined
    this.size--
  }
}

/** A client's tasks. */
export class Line extends TaskList implements Member {
  nextTurn = 0
  #share: Share

  constructor(
    readonly client: Client,
    share: Share,
  ) {
    super()
    this.#share = share
  }

  /** Where it has its turns. */
  get share(): Share {
    return this.#share
  }

  get canBegin(): boolean {
    return typeof this.client !== 'object' || !this.client.isFull
  }

  /** Its client has come back over another connection, whose clock is another. */
  moveTo(share: Share): void {
    if (share !== this.#share) this.nextTurn = 0
    this.#share = share
  }

  /** One of its tasks has taken so long. */
  paid(ms: number): void {
    this.share.lines.paid(this, ms)
    this.share.paid(ms)
  }
}

/**
 * Tasks that wait for a worker. Each client's are first in, first out; clients take turns, so that one with a million
 * tasks delays another's only one by a turn. Turns are for time, not for tasks: a client whose tasks have run long lets
 * the others go first, until theirs have run as long. Clients of one connection have the turns of one, and take turns in
 * these. Tasks that had their turn and come back stand in front of all; where there is a limit of how many workers a
 * connection may have, of those of their own client, since they wait for one of its workers.
 */
export class TaskQueue {
  readonly #round = new Round<Share>()
  /** By client; one without tasks has no line. */
  readonly #lines = new Map<Client, Line>()
  /** By connection and by client, also of those that have no tasks now: what these have run they still owe. */
  readonly #shares = new WeakMap<object, Share>()
  readonly #known = new WeakMap<object, Line>()
  readonly #returned = new TaskList()
  #size = 0
  #bytes = 0

  /** @param maxWorkers how many workers a connection may have at once. */
  constructor(private readonly maxWorkers = Number.POSITIVE_INFINITY) {}

  /** Whether workers have to say whose they are. */
  get isLimited(): boolean {
    return this.maxWorkers < Number.POSITIVE_INFINITY
  }

  get size(): number {
    return this.#size
  }

  /** The encoded bytes of all tasks that wait. */
  get bytes(): number {
    return this.#bytes
  }

  /** How many of a client's wait for their turn. */
  sizeOf(client: Client): number {
    return this.#lines.get(client)?.size ?? 0
  }

  push(task: Task): void {
    const { client } = task.job
    this.#open(client).push(task)
    this.#count(task, 1)
  }

  /** Puts a task in front: it had its turn. */
  unshift(task: Task): void {
    const list = this.isLimited ? this.#open(task.job.client) : this.#returned
    list.unshift(task)
    this.#count(task, 1)
  }

  /**
   * The task whose turn it is; it stays. Undefined where all that wait have to go on waiting: their clients are full, or
   * have as many workers as they may.
   */
  peek(): Task | undefined {
    return this.#returned.first ?? this.#round.next()?.lines.next()?.first
  }

  /**
   * The same for a worker that is a share's: undefined where its share has no turn. For as long as others can begin
   * something it has to become theirs.
   * @param isTurn this is still the turn in which it became the share's.
   */
  peekOf(share: Share, isTurn: boolean): Task | undefined {
    if (!share.canGoOn || !(isTurn || this.#round.next(share) === share)) return undefined
    return share.lines.next()?.first
  }

  /** Takes out the task whose turn it is, as `peek` has given it; tells whose its worker is now, where that matters. */
  take(task: Task): Share | undefined {
    const { line } = task
    this.remove(task)
    if (!(line instanceof Line)) return undefined
    task.payer = line
    line.share.lines.moveBack(line)
    this.#round.moveBack(line.share)
    return this.isLimited ? line.share : undefined
  }

  /** Takes out all, also those of clients that are full. */
  *drain(): Iterable<Task> {
    for (const list of [this.#returned, ...this.#lines.values()]) {
      for (let { first } = list; first; { first } = list) {
        this.remove(first)
        yield first
      }
    }
  }

  /** Takes a task out wherever it stands; false where it does not wait here. */
  remove(task: Task): boolean {
    const { line } = task
    if (!(line instanceof TaskList)) return false
    line.remove(task)
    if (line instanceof Line && !line.first) this.#close(line)
    this.#count(task, -1)
    return true
  }

  #open(client: Client): Line {
    const connection = connectionOf(client)
    const open = this.#lines.get(client)
    if (open?.share.connection === connection) return open
    // A session that has come back over another connection: what waits, and what has still to be paid, is there from now on.
    if (open) this.#close(open)
    const share = this.#shareOf(connection)
    const known = typeof client === 'object' ? this.#known.get(client) : undefined
    const line = known ?? new Line(client, share)
    line.moveTo(share)
    if (typeof client === 'object') this.#known.set(client, line)
    this.#lines.set(client, line)
    if (share.lines.size === 0) this.#round.join(share)
    share.lines.join(line)
    return line
  }

  #shareOf(connection: object | string): Share {
    const known = typeof connection === 'object' ? this.#shares.get(connection) : undefined
    const share = known ?? new Share(connection, this.#round, this.maxWorkers)
    if (typeof connection === 'object') this.#shares.set(connection, share)
    return share
  }

  #close(line: Line): void {
    const { client, share } = line
    this.#lines.delete(client)
    share.lines.leave(line)
    if (share.lines.size === 0) this.#round.leave(share)
  }

  #count(task: Task, sign: 1 | -1): void {
    this.#size += sign
    this.#bytes += sign * task.bytes
  }
}
