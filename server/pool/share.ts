import type { Client, Task } from './task.js'
import { type Member, Round } from './turns.js'

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
