import type { ServerHttp2Session, ServerHttp2Stream } from 'node:http2'
import { OPEN_CALL_BYTES, WINDOW_BYTES } from '../../wire/limits.js'
import type { Account, Budget } from './budget.js'

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
