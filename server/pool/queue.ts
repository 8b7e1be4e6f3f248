import type { Client, Task } from './task.js'
import { Member, Round } from './turns.js'

/** A connection whose tasks wait, in one line or in those of many streams: they take turns with each other, and have one with others. */
class Payer extends Member {
  readonly lines = new Round<Line>()

  constructor(readonly connection: object | string) {
    super()
  }

  get canBegin(): boolean {
    for (const line of this.lines) if (line.canBegin) return true
    return false
  }
}

/** A client's tasks, as a doubly linked list: any of them leaves at once, however many wait. */
class Line extends Member {
  first: Task | undefined
  last: Task | undefined
  size = 0

  /** Those that came back are no client's. */
  constructor(
    readonly client: Client | undefined,
    readonly payer: Payer | undefined,
    private readonly round: Round<Payer>,
  ) {
    super()
  }

  get canBegin(): boolean {
    return typeof this.client !== 'object' || !this.client.isFull
  }

  /** One of its tasks has taken so long. */
  paid(ms: number): void {
    if (!this.payer) return
    this.payer.lines.paid(this, ms)
    this.round.paid(this.payer, ms)
  }

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
 * tasks delays another's only one by a turn. Turns are for time, not for tasks: a client whose tasks have run long lets
 * the others go first, until theirs have run as long. Connections take turns, and in each of them its streams. Tasks that had
 * their turn and come back stand in front of all.
 */
export class TaskQueue {
  readonly #round = new Round<Payer>()
  /** By connection and by client; one without tasks has no line. */
  readonly #payers = new Map<object | string, Payer>()
  readonly #lines = new Map<Client, Line>()
  /** Also those that have none waiting now: what they have run they still owe. */
  readonly #knownPayers = new WeakMap<object, Payer>()
  readonly #knownLines = new WeakMap<object, Line>()
  readonly #returned = new Line(undefined, undefined, this.#round)
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
    return this.#round.next()?.lines.next()?.first
  }

  /** Takes out the task whose turn it is, as `peek` has given it. */
  take(task: Task): void {
    const { line } = task
    this.remove(task)
    if (!(line instanceof Line) || !line.payer) return
    task.payer = line
    line.payer.lines.moveBack(line)
    this.#round.moveBack(line.payer)
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
    const payer = this.#payers.get(connection) ?? this.#join(connection)
    const known = typeof client === 'object' ? this.#knownLines.get(client) : undefined
    // A session may have come back over another connection.
    const line = known?.payer === payer ? known : new Line(client, payer, this.#round)
    if (typeof client === 'object') this.#knownLines.set(client, line)
    this.#lines.set(client, line)
    payer.lines.join(line)
    return line
  }

  /** A connection has tasks that wait, and had none. */
  #join(connection: object | string): Payer {
    const known = typeof connection === 'object' ? this.#knownPayers.get(connection) : undefined
    const payer = known ?? new Payer(connection)
    if (typeof connection === 'object') this.#knownPayers.set(connection, payer)
    this.#payers.set(connection, payer)
    this.#round.join(payer)
    return payer
  }

  #close(line: Line): void {
    const { client, payer } = line
    if (client === undefined || !payer) return
    this.#lines.delete(client)
    payer.lines.leave(line)
    if (payer.lines.size > 0) return
    this.#payers.delete(payer.connection)
    this.#round.leave(payer)
  }

  #count(task: Task, sign: 1 | -1): void {
    this.#size += sign
    this.#bytes += sign * task.bytes
  }
}

/** What a client takes its turns for: many streams of one connection have no more of them than one. */
const connectionOf = (client: Client): object | string =>
  typeof client === 'string' ? client : (client.connection ?? client)
