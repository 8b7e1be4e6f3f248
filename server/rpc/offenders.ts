import type { Socket } from 'node:net'

/** An address may break the protocol so long at full pace, after so long without. */
const SAVED_MS = 1_000
/** Whoever has done it without end is as all others after so long. */
const LONGEST_MS = 3_000
/** Addresses that are remembered. */
const ADDRESSES = 1_000
/** Those that would have to wait longer are closed. While they wait nothing is read, so that nobody notices that one has gone. */
const WAIT_MS = 5_000

/**
 * Connections of addresses whose connections break the protocol again and again. To greet one, and to end it with all that it has
 * opened, costs the server milliseconds, and its heap more: so many in a second may be broken, and then all of the same
 * address wait in line before the server reads a word of them. Those that it has already, and other addresses, notice nothing.
 */
export class Offenders {
  readonly #costMs: number
  readonly #lines = new Map<string, Line>()

  /**
   * @param perSecond how many connections of one address may break the protocol in a second; 0 for any number.
   * @param told now and then, while connections have to wait.
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
    const line = this.#lines.get(address) ?? this.#remember(address)
    line.owe(this.#costMs)
  }

  /** Calls `accept`, now or when it is the connection's turn, where it is still there by then. */
  enter(socket: Socket, address: string, accept: () => void): void {
    const line = this.#lines.get(address)
    if (!line || line.isFree) return accept()
    this.told(address)
    if (line.isFull) socket.destroy()
    else line.push(socket, accept)
  }

  #remember(address: string): Line {
    for (const [known, line] of this.#lines) {
      if (line.isOver || (this.#lines.size >= ADDRESSES && line.size === 0)) this.#lines.delete(known)
    }
    const line = new Line(this.#costMs)
    this.#lines.set(address, line)
    return line
  }
}

/** What an address owes, in milliseconds, which go by, and its connections that wait. */
class Line {
  readonly #waiting = new Map<Socket, () => void>()
  /** When nothing is owed any more. */
  #until = performance.now()
  #timer: NodeJS.Timeout | undefined

  constructor(private readonly costMs: number) {}

  get size(): number {
    return this.#waiting.size
  }

  get isOver(): boolean {
    return this.size === 0 && this.#owed <= 0
  }

  /** Whether a connection that comes now need not wait. */
  get isFree(): boolean {
    return this.size === 0 && this.#owed < SAVED_MS
  }

  get isFull(): boolean {
    return this.size * this.costMs >= WAIT_MS
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

  get #owed(): number {
    return this.#until - performance.now()
  }

  #wait(): void {
    this.#timer ??= setTimeout(() => this.#next(), Math.max(this.costMs, this.#owed - SAVED_MS)).unref()
  }

  #next(): void {
    this.#timer = undefined
    const [first] = this.#waiting
    if (!first) return
    if (this.#owed < SAVED_MS) {
      const [socket, accept] = first
      this.#waiting.delete(socket)
      accept()
    }
    if (this.size > 0) this.#wait()
  }
}

const ignored = () => {}
