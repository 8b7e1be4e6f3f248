import type { ServerHttp2Session, ServerHttp2Stream } from 'node:http2'
import { Failure } from '../../wire/failure.js'
import { RETRY_MS, WINDOW_BYTES } from '../../wire/protocol.js'

/** A stream of calls is not read while its calls and outcomes hold more than this: its client has to wait, not our memory. */
export const STREAM_BYTES = 64 * 1024 * 1024

/** What an open call of HTTP/2 takes by itself. */
const OPEN_CALL_BYTES = 8 * 1024

/** grpc-js copies a message behind its prefix, and has both until it is sent. */
export const UNSENT_COPIES = 2

/** Connections that a server holds; further ones are closed. Each takes a descriptor and some 100 KiB. */
export const MAX_CONNECTIONS = 1_000

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

/** How often it is looked at what waits in streams that are not read, in milliseconds. */
const LOOK_MS = 100

/** What one open call of a connection makes the server hold. */
export class HeldCall {
  #bytes = 0
  #unread = 0
  #buffered = 0
  isGone = false
  /** A handler has its message. */
  isTaken = false
  #onClose: (() => void)[] = []

  constructor(
    readonly account: Account,
    private readonly stream: ServerHttp2Stream,
  ) {
    this.add(OPEN_CALL_BYTES)
  }

  /** Of its request. */
  add(bytes: number): void {
    if (this.isGone) return
    this.#bytes += bytes
    this.account.add(bytes)
  }

  /** Of its answer, written and not sent. */
  addUnread(bytes: number): void {
    if (this.isGone) return
    this.#unread += bytes
    this.account.addUnread(bytes)
  }

  /** Counts what has come and nobody has read. */
  look(): void {
    const buffered = this.stream.readableLength
    this.account.add(buffered - this.#buffered)
    this.#buffered = buffered
  }

  onClose(listener: () => void): void {
    if (this.isGone) listener()
    else this.#onClose.push(listener)
  }

  close(): void {
    this.isGone = true
    this.account.add(-this.#bytes - this.#buffered)
    this.account.addUnread(-this.#unread)
    for (const listener of this.#onClose) listener()
  }
}

/** The connections of a server as holders of its memory. */
export class Connections {
  readonly #bySession = new WeakMap<ServerHttp2Session, { readonly peer: string; readonly account: Account }>()
  readonly #byPeer = new Map<string, Account>()
  readonly #calls = new Set<HeldCall>()
  #unnamed = 0
  #looking: NodeJS.Timeout | undefined

  /** @param limitBytes of the budget: with so many calls that their windows alone could exceed it, these are looked at. */
  constructor(
    private readonly budget: Budget,
    private readonly limitBytes: number,
  ) {}

  of(session: ServerHttp2Session): { readonly peer: string; readonly account: Account } {
    const known = this.#bySession.get(session)
    if (known) return known
    const { remoteAddress, remotePort } = session.socket ?? {}
    const peer = remoteAddress === undefined ? `unix:${++this.#unnamed}` : `${remoteAddress}:${remotePort}`
    // Without a word: what says more of it would be taken for an answer to its calls, which may have begun.
    const account = this.budget.open(() => session.destroy())
    this.#bySession.set(session, { peer, account })
    this.#byPeer.set(peer, account)
    session.once('close', () => {
      account.close()
      if (this.#byPeer.get(peer) === account) this.#byPeer.delete(peer)
    })
    return { peer, account }
  }

  /** As a client of pools; one that is gone by its address. */
  client(peer: string): Account | string {
    return this.#byPeer.get(peer) ?? peer
  }

  begin(account: Account, stream: ServerHttp2Stream): HeldCall {
    const call = new HeldCall(account, stream)
    this.#calls.add(call)
    stream.once('close', () => {
      this.#calls.delete(call)
      call.close()
    })
    if (this.#calls.size * WINDOW_BYTES > this.limitBytes / 4) this.#look()
    return call
  }

  #look(): void {
    this.#looking ??= setInterval(() => {
      for (const call of this.#calls) call.look()
      if (this.#calls.size > 0) return
      clearInterval(this.#looking)
      this.#looking = undefined
    }, LOOK_MS).unref()
  }
}
