import { type Client, connectionOf } from '../scheduler/task.js'

/** Who has called within so long of somebody else is not alone. */
const TOGETHER_MS = 1_000

/** Whether clients have the server to themselves, or others call meanwhile. */
export class Company {
  #last: object | string | undefined
  #changedAt = Number.NEGATIVE_INFINITY

  /** For every call: reads the clock only where it is another's than the one before. */
  came(client: Client): void {
    const connection = connectionOf(client)
    if (connection === this.#last) return
    if (this.#last !== undefined) this.#changedAt = performance.now()
    this.#last = connection
  }

  /** Whether calls of more than one connection have come lately, in turns. */
  get isThere(): boolean {
    return performance.now() - this.#changedAt < TOGETHER_MS
  }
}

/** Entries that wait in line, by owner: owners take turns. */
export class LinesInTurn<Entry> {
  /** The owner whose turn it is first. Each entry is one of its own, also where the same waits twice. */
  readonly #lines = new Map<unknown, Set<{ readonly entry: Entry }>>()

  get isEmpty(): boolean {
    return this.#lines.size === 0
  }

  /** Behind all others of this owner. Returns how to leave the line before its turn. */
  enter(owner: unknown, entry: Entry): () => void {
    const place = { entry }
    const line = this.#lines.get(owner) ?? new Set()
    this.#lines.set(owner, line)
    line.add(place)
    return () => {
      line.delete(place)
      if (line.size === 0 && this.#lines.get(owner) === line) this.#lines.delete(owner)
    }
  }

  /** Takes the first of the owner whose turn it is, who then stands behind all others; undefined where nobody waits. */
  take(): Entry | undefined {
    const [first] = this.#lines
    if (!first) return undefined
    const [owner, line] = first
    const [place] = line
    this.#lines.delete(owner)
    if (place) line.delete(place)
    if (line.size > 0) this.#lines.set(owner, line)
    return place?.entry
  }
}

/** Starting processes for clients' pools may take such a part of the event loop. */
const SHARE = 0.2
/** And such a one while other clients call. */
const SHARE_IN_COMPANY = 0.05
/** What may be taken at once has been saved for so long. */
const SAVED_MS = 500

/**
 * When processes of clients' pools start. To make one holds up the whole server for milliseconds, and its start takes CPUs, so
 * one client that opens and ends pools as fast as it can would leave the others little of them. A few start without delay,
 * one in a turn of the event loop; those of a flood, or of a very large pool, wait in line, and clients take turns. One that
 * ends while it waits costs nothing.
 */
export class Starts {
  readonly #lines = new LinesInTurn<() => void>()
  #creditMs = SHARE * SAVED_MS
  #at = performance.now()
  #timer: NodeJS.Timeout | undefined

  constructor(private readonly company: Company) {}

  /** Calls `start`, now or later; returns how to leave the line before. */
  enter(client: Client, start: () => void): () => void {
    const leave = this.#lines.enter(client, start)
    if (!this.#timer) this.#next()
    return leave
  }

  #next(): void {
    this.#timer = undefined
    if (this.#lines.isEmpty) return
    const share = this.company.isThere ? SHARE_IN_COMPANY : SHARE
    this.#refill(share)
    try {
      if (this.#creditMs > 0) this.#startOne()
    } finally {
      // One in a turn of the event loop: who calls meanwhile waits for one at most.
      this.#timer = setTimeout(() => this.#next(), Math.max(1, -this.#creditMs / share))
    }
  }

  #startOne(): void {
    const from = performance.now()
    this.#lines.take()?.()
    this.#creditMs -= performance.now() - from
  }

  #refill(share: number): void {
    const now = performance.now()
    this.#creditMs = Math.min(SAVED_MS * share, this.#creditMs + share * (now - this.#at))
    this.#at = now
  }
}

/** Where starts wait for their turn: calls `start`, now or later; returns how to leave before. */
export type Enter = (start: () => void) => () => void

/** The workers of one pool that are still to be started: after a while, or when it is their turn. */
export class Upcoming {
  readonly #giveUp = new Map<number, () => void>()

  /** @param enter undefined where they need not wait. */
  constructor(private readonly enter: Enter | undefined) {}

  add(worker: number, delayMs: number, start: () => void): void {
    const begin = () => {
      this.#giveUp.delete(worker)
      start()
    }
    const enter = () => {
      let isBegun = false
      const leave = this.enter?.(() => {
        isBegun = true
        begin()
      })
      if (!leave) begin()
      else if (!isBegun) this.#giveUp.set(worker, leave)
    }
    if (delayMs <= 0) return enter()
    const timer = setTimeout(enter, delayMs)
    this.#giveUp.set(worker, () => clearTimeout(timer))
  }

  /** Whether it is one of them; then it never starts. */
  remove(worker: number): boolean {
    const giveUp = this.#giveUp.get(worker)
    giveUp?.()
    return this.#giveUp.delete(worker)
  }
}
