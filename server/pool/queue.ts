import type { Client, Task } from './task.js'

/** So long before its time a client has its turn all the same: tasks of microseconds need not be compared one by one. */
const TURN_MS = 1

/**
 * What a client's tasks have taken it gives back: the others have as much each before its next turn, but no more than
 * so many of them. Where there are hundreds, each with a little, nobody waits until all of them have had that.
 */
const MAX_SHARERS = 4

/** The clock of turns, in milliseconds: it goes on when nobody has a turn before, and faster where clients are many. */
interface Turns {
  now: number
  readonly lines: ReadonlyMap<Client, unknown>
}

/** A doubly linked list of tasks: any of them leaves at once, however many wait. */
class Line {
  first: Task | undefined
  last: Task | undefined
  size = 0
  /** By the clock of turns: before it, others go first. */
  nextTurn = 0

  constructor(private readonly turns: Turns) {}

  /** One of its tasks has taken so long. */
  paid(ms: number): void {
    this.nextTurn = Math.max(this.nextTurn, this.turns.now) + ms
    if (this.turns.lines.size > MAX_SHARERS) this.turns.now += ms / MAX_SHARERS
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
 * the others go first, until theirs have run as long. Tasks that had their turn and come back stand in front of all.
 */
export class TaskQueue {
  /** By client, the one whose turn it is first; a client without tasks has no line. */
  readonly #lines = new Map<Client, Line>()
  readonly #turns: Turns = { now: 0, lines: this.#lines }
  readonly #returned = new Line(this.#turns)
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
    const line = this.#lines.get(client) ?? new Line(this.#turns)
    // A line that is there keeps its turn.
    if (!line.first) this.#lines.set(client, line)
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
    for (const [client, line] of this.#lines) if (line.nextTurn <= now + TURN_MS && !isFull(client)) return line
    return undefined
  }

  /** Nobody else waits: who has the next turn has it now. */
  #soonest(): Line | undefined {
    let soonest = Number.POSITIVE_INFINITY
    for (const [client, line] of this.#lines) if (!isFull(client)) soonest = Math.min(soonest, line.nextTurn)
    if (soonest === Number.POSITIVE_INFINITY) return undefined
    this.#turns.now = soonest
    return this.#next()
  }

  shift(): Task | undefined {
    const task = this.peek()
    if (task) this.#take(task)
    return task
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

  #take(task: Task): void {
    const { client } = task.job
    const line = this.#lines.get(client)
    const isTurn = line !== undefined && task.line === line
    if (isTurn) task.payer = line
    this.remove(task)
    if (isTurn && this.#lines.size > 1 && line.first) {
      this.#lines.delete(client)
      this.#lines.set(client, line)
    }
  }

  /** Takes a task out wherever it stands; false where it does not wait here. */
  remove(task: Task): boolean {
    const { line } = task
    if (!(line instanceof Line)) return false
    line.remove(task)
    if (!line.first && line !== this.#returned) this.#lines.delete(task.job.client)
    this.#count(task, -1)
    return true
  }

  #count(task: Task, sign: 1 | -1): void {
    this.#size += sign
    this.#bytes += sign * task.bytes
  }
}

const isFull = (client: Client): boolean => typeof client !== 'string' && client.isFull
