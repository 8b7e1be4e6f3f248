import type { Socket } from 'node:net'

/** How much an address may owe before its connections wait. */
const FREE_MS = 1_000
/** Whoever has broken the protocol without end is as all others after so long. */
const LONGEST_MS = 60_000
/** Connections that would have to wait longer are closed. While they wait nothing is read, so that nobody notices that one has gone. */
const WAIT_MS = 5_000
/** Addresses that are remembered. */
const ADDRESSES = 1_000

/**
 * Connections of addresses whose connections break the protocol again and again. To greet one, and to end it with all that it has
 * opened, costs the server milliseconds, and its heap more. Each that breaks it is owed for; an address that owes much has its new
 * connections wait in line, and the server reads no word of them before their turn. Those that it has already, and other
 * addresses, notice nothing.
 */
export class Offenders {
  readonly #costMs: number
  /** The one that has offended last is the last. */
  readonly #lines = new Map<string, Line>()

  /**
   * @param perSecond how many connections of one address may break the protocol in a second; 0 for any number.
   * @param told while connections have to wait.
   */
  constructor(
    private readonly perSecond: number,
    private readonly told: (address: string) => void,
  ) {
    this.#costMs = 1_000 / perSecond
  }

  /** A connection of this address had to be ended. */
  offended(address: string): void {
    if (this.perSecond === 0) return
    const known = this.#lines.get(address)
    if (known) this.#lines.delete(address)
    else this.#forget()
    const line = known ?? new Line(this.#costMs)
    line.owe(this.#costMs)
    this.#lines.set(address, line)
  }

  /** Calls `accept`, now or when it is the connection's turn, where it is still there by then. */
  enter(socket: Socket, address: string, accept: () => void): void {
    const line = this.#lines.get(address)
    if (!line || line.isFree) return accept()
    this.told(address)
    if (line.isFull) socket.destroy()
    else line.push(socket, accept)
  }

  /** Nobody is let in any more. */
  close(): void {
    for (const line of this.#lines.values()) line.close()
  }

  #forget(): void {
    for (const [address, line] of this.#lines) {
      if (line.isOver || (this.#lines.size >= ADDRESSES && line.isEmpty)) this.#lines.delete(address)
    }
  }
}

/** What an address owes, in milliseconds, which go by, and its connections that wait. */
class Line {
  readonly #waiting = new Map<Socket, () => void>()
  /** When nothing is owed any more. */
  #until = performance.now()
  #timer: NodeJS.Timeout | undefined

  constructor(private readonly costMs: number) {}

  get isEmpty(): boolean {
    return this.#waiting.size === 0
  }

  get isOver(): boolean {
    return this.isEmpty && this.#owed <= 0
  }

  /** Whether a connection that comes now need not wait. */
  get isFree(): boolean {
    return this.#owed < FREE_MS
  }

  get isFull(): boolean {
    return this.#waiting.size * this.costMs >= WAIT_MS
  }

  owe(ms: number): void {
    const now = performance.now()
    this.#until = Math.min(now + LONGEST_MS, Math.max(now, this.#until) + ms)
  }

  push(socket: Socket, accept: () => void): void {
    const leave = () => void this.#waiting.delete(socket)
    socket.once('close', leave)
    // Of one that breaks meanwhile its end tells.
    socket.on('error', ignored)
    this.#waiting.set(socket, () => {
      socket.off('close', leave)
      socket.off('error', ignored)
      accept()
    })
    this.#wait()
  }

  close(): void {
    clearTimeout(this.#timer)
    for (const socket of [...this.#waiting.keys()]) socket.destroy()
  }

  get #owed(): number {
    return this.#until - performance.now()
  }

  #wait(): void {
    this.#timer ??= setTimeout(() => this.#next(), this.costMs)
  }

  /** One; or all, where nothing is held against them any more. */
  #next(): void {
    this.#timer = undefined
    for (const [socket, accept] of [...this.#waiting]) {
      this.#waiting.delete(socket)
      accept()
      if (!this.isFree) break
    }
    if (!this.isEmpty) this.#wait()
  }
}

const ignored = () => {}
