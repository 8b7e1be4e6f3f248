import type { Client, Task } from './task.js'

/** So long before its time a client has its turn all the same: tasks of microseconds need not be compared one by one. */
const TURN_MS = 1

/**
 * What a connection's tasks have taken it gives back: the others have as much each before its next turn, but no more than
 * so many of them. Where there are hundreds, each with a little, nobody waits until all of them have had that.
 */
const MAX_SHARERS = 4

/**
 * Whoever has nothing waiting for a moment, because each of its tasks comes when one before has ended, still lets the others
 * go first; but what it has run long ago, alone, is no reason to wait for ever.
 */
const MAX_DEBT_MS = 1_000

/** The clock of turns, in milliseconds: it goes on when nobody has a turn before, and faster where connections are many. */
interface Turns {
  now: number
  readonly payers: ReadonlyMap<unknown, unknown>
}

/** A connection whose tasks wait, in one line or in those of many streams: they pay together for what they run. */
class Payer {
  /** By the clock of turns: before it, others go first. */
  nextTurn = 0
  /** The one that is next first. */
  readonly lines = new Set<Line>()

  constructor(
    private readonly turns: Turns,
    readonly connection: unknown,
  ) {}

  /** Of its lines the next whose client can have more begun. */
  get line(): Line | undefined {
    for (const line of this.lines) if (line.client === undefined || !isFull(line.client)) return line
    return undefined
  }

  /** One of its tasks has taken so long. */
  paid(ms: number): void {
    this.nextTurn = Math.max(this.nextTurn, this.turns.now) + ms
    if (this.turns.payers.size > MAX_SHARERS) this.turns.now += ms / MAX_SHARERS
  }
}

/** A doubly linked list of tasks: any of them leaves at once, however many wait. */
class Line {
  first: Task | undefined
  last: Task | undefined
  size = 0

  constructor(
    readonly payer: Payer,
    readonly client: Client | undefined,
  ) {}

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

/**
 * Tasks that wait for a worker. Each client's are first in, first out; clients take turns, so that one with a million
 * tasks delays another's only one by a turn. Turns are for time, not for tasks: a connection whose tasks have run long lets
 * the others go first, until theirs have run as long. Tasks that had their turn and come back stand in front of all.
 */
export class TaskQueue {
  /** By client; one without tasks has no line. */
  readonly #lines = new Map<Client, Line>()
  /** By connection, the one whose turn it is first; only those that have lines. */
  readonly #payers = new Map<unknown, Payer>()
  /** Those that had some. */
  readonly #known = new WeakMap<object, Payer>()
  readonly #turns: Turns = { now: 0, payers: this.#payers }
  readonly #returned = new Line(new Payer(this.#turns, undefined), undefined)
  #size = 0
  #bytes = 0

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
    const line = this.#lines.get(client) ?? this.#open(client)
    line.push(task)
    this.#count(task, 1)
  }

  /** Puts a task in front of all others: it had its turn. */
  unshift(task: Task): void {
    this.#returned.unshift(task)
    this.#count(task, 1)
  }

  /** The task whose turn it is; it stays. Undefined where all that wait have to go on waiting: their clients are full. */
  peek(): Task | undefined {
    if (this.#returned.first) return this.#returned.first
    return (this.#next() ?? this.#soonest())?.first
  }

  /** The line whose turn it is, among those that have one now. */
  #next(): Line | undefined {
    const { now } = this.#turns
    for (const payer of this.#payers.values()) {
      const line = payer.nextTurn <= now + TURN_MS ? payer.line : undefined
      if (line) return line
    }
    return undefined
  }

  /** Nobody has a turn before: who has the next one has it now. */
  #soonest(): Line | undefined {
    let soonest = Number.POSITIVE_INFINITY
    for (const { nextTurn, line } of this.#payers.values()) if (line) soonest = Math.min(soonest, nextTurn)
    if (soonest === Number.POSITIVE_INFINITY) return undefined
    this.#turns.now = soonest
    return this.#next()
  }

  /** Takes out all, also those of clients that are full. */
  *drain(): Iterable<Task> {
    for (const line of [this.#returned, ...this.#lines.values()]) {
      for (let { first } = line; first; { first } = line) {
        this.remove(first)
        yield first
      }
    }
  }

  /** Takes out the task whose turn it is, as `peek` has given it. */
  take(task: Task): void {
    const { line } = task
    this.remove(task)
    if (!(line instanceof Line) || line === this.#returned) return
    const { payer } = line
    task.payer = payer
    // Behind the others, where it has more.
    if (line.first) moveBack(payer.lines, line)
    if (payer.lines.size > 0 && this.#payers.size > 1) {
      this.#payers.delete(payer.connection)
      this.#payers.set(payer.connection, payer)
    }
  }

  /** Takes a task out wherever it stands; false where it does not wait here. */
  remove(task: Task): boolean {
    const { line } = task
    if (!(line instanceof Line)) return false
    line.remove(task)
    if (!line.first) this.#close(line)
    this.#count(task, -1)
    return true
  }

  #open(client: Client): Line {
    const connection = connectionOf(client)
    const payer = this.#payers.get(connection) ?? this.#comeBack(connection)
    const line = new Line(payer, client)
    payer.lines.add(line)
    this.#lines.set(client, line)
    return line
  }

  /** A connection has tasks that wait, and had none. */
  #comeBack(connection: object | string): Payer {
    const payer = (typeof connection === 'object' && this.#known.get(connection)) || new Payer(this.#turns, connection)
    payer.nextTurn = Math.min(payer.nextTurn, this.#turns.now + MAX_DEBT_MS)
    this.#payers.set(connection, payer)
    if (typeof connection === 'object') this.#known.set(connection, payer)
    return payer
  }

  #close(line: Line): void {
    const { client, payer } = line
    if (client === undefined) return
    this.#lines.delete(client)
    payer.lines.delete(line)
    if (payer.lines.size === 0) this.#payers.delete(payer.connection)
  }

  #count(task: Task, sign: 1 | -1): void {
    this.#size += sign
    this.#bytes += sign * task.bytes
  }
}

const isFull = (client: Client): boolean => typeof client !== 'string' && client.isFull

/** What a client takes its turns for: many streams of one connection have no more of them than one. */
const connectionOf = (client: Client): object | string =>
  typeof client === 'string' ? client : (client.connection ?? client)

function moveBack<T>(set: Set<T>, member: T): void {
  if (set.size < 2) return
  set.delete(member)
  set.add(member)
}
