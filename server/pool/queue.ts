import { Line, Share, TaskList } from './share.js'
import { type Client, connectionOf, type Task } from './task.js'
import { Round } from './turns.js'

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
