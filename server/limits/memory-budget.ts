import type { ServerHttp2Session, ServerHttp2Stream } from 'node:http2'
import type { Identity } from '../../pool/scheduler/task.js'
import { Failure } from '../../wire/failure.js'
import { RETRY_MS, WINDOW_BYTES } from '../../wire/protocol.js'

/**
 * The memory that a server holds for its clients, counted in bytes: requests that have not arrived completely or have
 * not been answered, and answers that have not been read. Each connection and each stream of calls has an account.
 *
 * The limit is shared by all accounts; none has a reserved part. An account that holds more than is left must wait (a
 * stream is not read, tasks do not begin) or is refused (QUEUE_FULL). So one client alone may hold half of the limit,
 * each of a thousand greedy ones a thousandth, and a new client finds as much as each of them has. Network switches
 * share their buffers by the same rule: dynamic thresholds, Choudhury and Hahne, 1998.
 */

/** The most that one stream of calls may hold before it is not read any further. */
export const STREAM_BYTES = 64 * 1024 * 1024

/** What an open HTTP/2 stream costs by itself. */
const OPEN_CALL_BYTES = 8 * 1024

/** grpc-js copies each message behind its prefix, and keeps both until it is sent. A message in pieces counts as much. */
export const UNSENT_COPIES = 2

/** Default of --max-connections, unless there is little memory. Each takes a file descriptor and about this many bytes. */
export const MAX_CONNECTIONS = 1_000
export const CONNECTION_BYTES = 100 * 1024

/** With every connection at its floor, all of them together hold a quarter of the limit. */
const FLOOR_PARTS = 4 * MAX_CONNECTIONS

/** Above this multiple of the limit, the account that holds most is cut off: results of running tasks can still grow. */
const CUT_AT = 2

/** Waiting accounts are told when this part of the limit has become free. */
const TELL_AT = 1 / 64

/** The narrowest window, Node's own: the least that HTTP/2 lets a peer count on. */
export const NARROW_WINDOW_BYTES = 64 * 1024 - 1

/** Before anything is counted, this many streams can fill their windows and hold as much as the limit. */
const WINDOWS = 64

/** The HTTP/2 receive window of each stream and each connection, for a limit of the budget. */
export const windowFor = (limitBytes: number): number =>
  Math.max(NARROW_WINDOW_BYTES, Math.min(WINDOW_BYTES, Math.floor(limitBytes / WINDOWS)))

/** How often streams that nobody reads are looked at, in milliseconds. */
const LOOK_MS = 100

/** One holder of memory. The account of a connection is also the identity of its calls, if their caller has no name. */
export class Account implements Identity {
  #bytes = 0
  #unread = 0
  #isOpen = true

  /**
   * @param name for logs.
   * @param cut gives up everything that it holds, because no account holds more and the budget is far exceeded.
   */
  constructor(
    private readonly budget: MemoryBudget,
    readonly name: string,
    readonly cut: () => void,
  ) {}

  get bytes(): number {
    return this.#bytes
  }

  /** @param bytes more, or fewer if negative. Ignored after `close`. */
  add(bytes: number): void {
    if (!this.#isOpen) return
    this.#bytes += bytes
    this.budget.changed(this, bytes)
  }

  /** As `add`, for bytes that wait to be read by the peer. */
  addUnread(bytes: number): void {
    if (!this.#isOpen) return
    this.#unread += bytes
    this.budget.unreadChanged(bytes)
    this.add(bytes)
  }

  /** It holds more than is left for everybody, so it is refused more. */
  get isOver(): boolean {
    return this.#bytes > Math.max(this.budget.floor, this.budget.room)
  }

  get isFull(): boolean {
    const isFull = this.#unread > this.budget.share
    if (isFull) this.budget.wait(this)
    return isFull
  }

  close(): void {
    this.addUnread(-this.#unread)
    this.add(-this.#bytes)
    this.#isOpen = false
    this.budget.closed(this)
  }
}

export interface BudgetEvents {
  /** More than half of the limit is held now (true), or less than a quarter again (false). */
  pressure(isHigh: boolean): void
  /** There is room again for an account that waits. */
  room(): void
  /** An account was cut off. */
  cut(bytes: number): void
}

export class MemoryBudget {
  readonly #accounts = new Set<Account>()
  readonly #waiting = new Set<Account | (() => void)>()
  #held = 0
  #unread = 0
  #whenRead: (() => void)[] = []
  /** Bytes that have become free since waiting accounts were told. */
  #freed = 0
  #isTelling = false
  #isHigh = false
  #isCutting = false

  constructor(
    private readonly limitBytes: number,
    private readonly events: BudgetEvents,
  ) {}

  /** @param cut see Account. */
  open(name: string, cut: () => void): Account {
    const account = new Account(this, name, cut)
    this.#accounts.add(account)
    return account
  }

  get held(): number {
    return this.#held
  }

  /** What any account may hold, however much the others do. */
  get floor(): number {
    return this.limitBytes / FLOOR_PARTS
  }

  /** What is left for everybody. */
  get room(): number {
    return this.limitBytes - this.#held
  }

  /** What one stream of calls may hold, and what one client may leave unread. */
  get share(): number {
    return Math.min(STREAM_BYTES, Math.max(this.floor, this.room))
  }

  /** Waits for room, once. Then `events.room` is called, and a listener. */
  wait(listener: Account | (() => void)): void {
    this.#waiting.add(listener)
  }

  /** Resolves when every answer that has been written has been sent. */
  allRead(): Promise<void> {
    return this.#unread === 0 ? Promise.resolve() : new Promise((resolve) => this.#whenRead.push(resolve))
  }

  /** For accounts. */
  changed(account: Account, bytes: number): void {
    this.#held += bytes
    if (bytes > 0) {
      if (!this.#isHigh && this.#held > this.limitBytes / 2) this.#setPressure(true)
      if (this.#held > CUT_AT * this.limitBytes) this.#cutSoon()
      return
    }
    if (this.#isHigh && this.#held < this.limitBytes / 4) this.#setPressure(false)
    if (this.#waiting.size === 0) return
    this.#freed -= bytes
    if (this.#waiting.has(account) || this.#freed > this.limitBytes * TELL_AT) this.#tellSoon()
  }

  /** For accounts. */
  unreadChanged(bytes: number): void {
    this.#unread += bytes
    if (this.#unread === 0) for (const resolve of this.#whenRead.splice(0)) resolve()
  }

  /** For accounts. */
  closed(account: Account): void {
    this.#accounts.delete(account)
    this.#waiting.delete(account)
  }

  #setPressure(isHigh: boolean): void {
    this.#isHigh = isHigh
    this.events.pressure(isHigh)
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
      this.events.room()
    })
  }

  #cutSoon(): void {
    if (this.#isCutting) return
    this.#isCutting = true
    setImmediate(() => {
      this.#isCutting = false
      if (this.#held <= CUT_AT * this.limitBytes) return
      let most: Account | undefined
      for (const account of this.#accounts) if (!most || account.bytes > most.bytes) most = account
      if (!most) return
      this.events.cut(most.bytes)
      most.cut()
      most.close()
      if (this.#held > CUT_AT * this.limitBytes) this.#cutSoon()
    })
  }
}

/** What one open call of a connection makes the server hold. It is given back when the stream closes. */
export class CallMemory {
  #bytes = 0
  #unread = 0
  #buffered = 0
  isClosed = false
  /** A handler has received its message. */
  isTaken = false

  constructor(
    readonly account: Account,
    private readonly stream: ServerHttp2Stream,
  ) {
    this.add(OPEN_CALL_BYTES)
  }

  /** Bytes of its request. */
  add(bytes: number): void {
    if (this.isClosed) return
    this.#bytes += bytes
    this.account.add(bytes)
  }

  /** Its request is not kept any longer. */
  drop(): void {
    this.add(OPEN_CALL_BYTES - this.#bytes)
  }

  /** Bytes of its answer that are written and not sent. */
  addUnread(bytes: number): void {
    if (this.isClosed) return
    this.#unread += bytes
    this.account.addUnread(bytes)
  }

  /** Counts the bytes that have arrived in the stream and that nobody has read. */
  countBuffered(): void {
    const buffered = this.stream.readableLength
    this.account.add(buffered - this.#buffered)
    this.#buffered = buffered
  }

  close(): void {
    this.isClosed = true
    this.account.add(-this.#bytes - this.#buffered)
    this.account.addUnread(-this.#unread)
  }
}

/** The accounts of all connections of a server. */
export class ConnectionAccounts {
  readonly #bySession = new WeakMap<ServerHttp2Session, Account>()
  readonly #calls = new Set<CallMemory>()
  #unixSockets = 0
  #looking: NodeJS.Timeout | undefined

  /** @param limitBytes the budget's limit: if the windows of all open calls could exceed it, their streams are looked at. */
  constructor(
    private readonly budget: MemoryBudget,
    private readonly limitBytes: number,
  ) {}

  of(session: ServerHttp2Session): Account {
    const known = this.#bySession.get(session)
    if (known) return known
    const { remoteAddress, remotePort } = session.socket ?? {}
    const peer = remoteAddress === undefined ? `unix:${++this.#unixSockets}` : `${remoteAddress}:${remotePort}`
    // Destroyed without an error code: a code would be taken for an answer to its calls, which may have begun.
    const account = this.budget.open(peer, () => session.destroy())
    this.#bySession.set(session, account)
    session.once('close', () => account.close())
    return account
  }

  /** For calls whose connection is not known: nothing is counted. */
  none(): Account {
    const closed = this.budget.open('an unknown connection', () => {})
    closed.close()
    return closed
  }

  openCall(account: Account, stream: ServerHttp2Stream): CallMemory {
    const call = new CallMemory(account, stream)
    this.#calls.add(call)
    stream.once('close', () => {
      this.#calls.delete(call)
      call.close()
    })
    if (this.#calls.size * windowFor(this.limitBytes) > this.limitBytes / 4) this.#look()
    return call
  }

  #look(): void {
    this.#looking ??= setInterval(() => {
      for (const call of this.#calls) call.countBuffered()
      if (this.#calls.size > 0) return
      clearInterval(this.#looking)
      this.#looking = undefined
    }, LOOK_MS).unref()
  }
}

/** The failure of calls that have not begun. */
export const heldTooMuch = (): Failure =>
  new Failure('QUEUE_FULL', 'the server holds as much for its clients as it may, and much of it for this one', {
    retryDelayMs: RETRY_MS,
    metadata: { what: 'bytes', of: 'client' },
  })

/** The failure of calls that may have begun. */
export const cutOff = (): Failure => heldTooMuch().of('unknown')
