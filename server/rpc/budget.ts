import { Failure } from '../../wire/failure.js'
import { MAX_CONNECTIONS, RETRY_MS, STREAM_BYTES } from '../../wire/limits.js'

/** Whoever makes the server hold something: a connection with its calls, or a stream of calls. */
export class Account {
  #bytes = 0
  #unread = 0
  #isOpen = true

  /** @param cut gives up what it holds: the server holds too much, and nobody more than this one. */
  constructor(
    private readonly budget: Budget,
    readonly cut: () => void,
  ) {}

  /** All that it holds. */
  get bytes(): number {
    return this.#bytes
  }

  /** More bytes, or fewer where negative. */
  add(bytes: number): void {
    if (!this.#isOpen) return
    this.#bytes += bytes
    this.budget.moved(this, bytes)
  }

  /** The same of bytes that wait to be read by the other end. */
  addUnread(bytes: number): void {
    if (!this.#isOpen) return
    this.#unread += bytes
    this.budget.movedUnread(bytes)
    this.add(bytes)
  }

  /** It holds more than is left for everybody. */
  get isOver(): boolean {
    return this.#bytes > Math.max(this.budget.floor, this.budget.room)
  }

  /** As a client of pools (pool/task.ts): more is unread than it may hold. */
  get isFull(): boolean {
    const isFull = this.#unread > this.budget.share
    if (isFull) this.budget.wait(this)
    return isFull
  }

  /** Nobody holds it back: where much of it waits already, it is refused. */
  readonly isHeldBack = false

  close(): void {
    this.addUnread(-this.#unread)
    this.add(-this.#bytes)
    this.#isOpen = false
    this.budget.closed(this)
  }
}

export interface BudgetEdges {
  /** More than half is held, or less than a quarter again: connections may send less ahead, or as much as before. */
  narrow(isNarrow: boolean): void
  /** There is more room, for which somebody waits. */
  room(): void
  /** Somebody has been cut off. */
  cut(bytes: number): void
}

/**
 * The bytes that a server holds for all its clients: requests that have not come whole or have not been answered, answers
 * that have not been read. Nobody has a part of his own: who holds more than is left waits, or is refused. So one
 * client alone may hold half, each of a thousand greedy ones a thousandth, and whoever comes then finds as much as each of
 * them has. (Dynamic thresholds, as switches share their buffers: Choudhury and Hahne, 1998.)
 */
export class Budget {
  readonly #accounts = new Set<Account>()
  readonly #waiting = new Set<Account | (() => void)>()
  #held = 0
  #unread = 0
  #whenRead: (() => void)[] = []
  /** What has become free since those that wait were told. */
  #freed = 0
  #isTelling = false
  #isNarrow = false
  #isCutting = false

  constructor(
    private readonly limitBytes: number,
    private readonly edges: BudgetEdges,
  ) {}

  open(cut: () => void): Account {
    const account = new Account(this, cut)
    this.#accounts.add(account)
    return account
  }

  get held(): number {
    return this.#held
  }

  /** So much anybody may hold, however much others do: not what keeps a thousand of them within the limit. */
  get floor(): number {
    return this.limitBytes / FLOOR_PARTS
  }

  /** What is left for everybody. */
  get room(): number {
    return this.limitBytes - this.#held
  }

  /** What one stream of calls may hold, or one client leave unread. */
  get share(): number {
    return Math.min(STREAM_BYTES, Math.max(this.floor, this.room))
  }

  /** Somebody waits for room: when there is more, `edges.room` is called, and a listener, once. */
  wait(listener: Account | (() => void)): void {
    this.#waiting.add(listener)
  }

  moved(account: Account, bytes: number): void {
    this.#held += bytes
    if (bytes > 0) {
      if (!this.#isNarrow && this.#held > this.limitBytes / 2) this.#narrow(true)
      if (this.#held > CUT_AT * this.limitBytes) this.#cutSoon()
      return
    }
    if (this.#isNarrow && this.#held < this.limitBytes / 4) this.#narrow(false)
    if (this.#waiting.size === 0) return
    this.#freed -= bytes
    if (this.#waiting.has(account) || this.#freed > this.limitBytes * TELL_AT) this.#tellSoon()
  }

  movedUnread(bytes: number): void {
    this.#unread += bytes
    if (this.#unread === 0) for (const resolve of this.#whenRead.splice(0)) resolve()
  }

  /** Resolves when all answers that have been written are on their way. */
  read(): Promise<void> {
    return this.#unread === 0 ? Promise.resolve() : new Promise((resolve) => this.#whenRead.push(resolve))
  }

  closed(account: Account): void {
    this.#accounts.delete(account)
    this.#waiting.delete(account)
  }

  #narrow(isNarrow: boolean): void {
    this.#isNarrow = isNarrow
    this.edges.narrow(isNarrow)
  }

  #tellSoon(): void {
    if (this.#isTelling) return
    this.#isTelling = true
    setImmediate(() => {
      this.#isTelling = false
      this.#freed = 0
      const waiting = [...this.#waiting]
      this.#waiting.clear()
      for (const listener of waiting) if (typeof listener === 'function') listener()
      this.edges.room()
    })
  }

  /** What was let in can still grow: results of tasks that run. Beyond all bounds, whoever holds most gives up what he has. */
  #cutSoon(): void {
    if (this.#isCutting) return
    this.#isCutting = true
    setImmediate(() => {
      this.#isCutting = false
      if (this.#held <= CUT_AT * this.limitBytes) return
      let most: Account | undefined
      for (const account of this.#accounts) if (!most || account.bytes > most.bytes) most = account
      if (!most) return
      this.edges.cut(most.bytes)
      most.cut()
      most.close()
      if (this.#held > CUT_AT * this.limitBytes) this.#cutSoon()
    })
  }
}

/** What all connections may hold at the least is a quarter of the limit. */
const FLOOR_PARTS = 4 * MAX_CONNECTIONS
/** From so many times the limit on, somebody is cut off. */
const CUT_AT = 2
/** Those that wait are told when so much of the limit has become free. */
const TELL_AT = 1 / 64

/** Of calls that have not begun. */
export const heldTooMuch = (): Failure =>
  new Failure('QUEUE_FULL', 'the server holds as much for its clients as it may, and much of it for this one', {
    retryDelayMs: RETRY_MS,
    metadata: { what: 'bytes', of: 'client' },
  })

/** Of calls that may have begun. */
export const cutOff = (): Failure => heldTooMuch().of('unknown')
