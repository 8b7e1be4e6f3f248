import type { Client, Task } from './task.js'
import { type Member, Round } from './turns.js'

/** A client's tasks, as a doubly linked list: any of them leaves at once, however many wait. */
class Line implements Member {
  first: Task | undefined
  last: Task | undefined
  size = 0
  nextTurn = 0

  /** @param client undefined for those that came back: they are before all turns. */
  constructor(
    readonly client: Client | undefined,
    private readonly round: Round<Line>,
  ) {}

  get canBegin(): boolean {
    return typeof this.client !== 'object' || !this.client.isFull
  }

  /** One of its tasks has taken so long. */
  paid(ms: number): void {
    this.round.paid(this, ms)
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
  readonly #round = new Round<Line>()
  /** By client; one without tasks has no line. */
  readonly #lines = new Map<Client, Line>()
  /** Also those of clients that have no tasks now: what these have run they still owe. */
  readonly #known = new WeakMap<object, Line>()
  readonly #returned = new Line(undefined, this.#round)
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
    return this.#round.next()?.first
  }

  /** Takes out the task whose turn it is, as `peek` has given it. */
  take(task: Task): void {
    const { line } = task
    this.remove(task)
    if (!(line instanceof Line) || line === this.#returned) return
    task.payer = line
    this.#round.moveBack(line)
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
    const known = typeof client === 'object' ? this.#known.get(client) : undefined
    const line = known ?? new Line(client, this.#round)
    if (typeof client === 'object') this.#known.set(client, line)
    this.#lines.set(client, line)
    this.#round.join(line)
    return line
  }

  #close(line: Line): void {
    if (line.client === undefined) return
    this.#lines.delete(line.client)
    this.#round.leave(line)
  }

  #count(task: Task, sign: 1 | -1): void {
    this.#size += sign
    this.#bytes += sign * task.bytes
  }
}
