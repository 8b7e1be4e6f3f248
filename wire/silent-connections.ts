import { readFile } from 'node:fs/promises'

/**
 * Ends TCP connections on which nothing will ever arrive again, long before HTTP/2 pings would. A peer that does not
 * answer a ping may compute, or stand at a breakpoint: its kernel still acknowledges what was sent. Only a machine that
 * has vanished does not even do that. Node has no access to TCP_USER_TIMEOUT, so this reads the kernel's table of
 * connections (Linux; elsewhere only the pings notice).
 */

/** A connected net.Socket. */
export interface Connection {
  /** Grows with everything that arrives, also answers to pings. */
  readonly bytesRead: number
  readonly localPort?: number | undefined
  readonly remotePort?: number | undefined
  readonly destroyed: boolean
  destroy(error?: Error): unknown
  unref(): unknown
  once(event: 'close', listener: () => void): unknown
}

const TICK_MS = 1_000

/** The kernel's table is read when nothing has arrived on a connection for this many ticks, and then as often. */
const LOOK_TICKS = 5

/** A connection ends when this many looks in a row have found it dead, and nothing has arrived meanwhile. */
const LOOKS = 2

/** A tick that is late by more than this: the program computed, or was stopped. */
const STALL_MS = 10_000

/** For how long after a stall a broken connection is put down to it: a client tries to resume its session for 5 s. */
const BLAMED_MS = 10_000

interface Watched {
  readonly connection: Connection
  bytesRead: number
  silentTicks: number
  deadLooks: number
}

/** The connections of a client program, or of a server. Its timer does not keep the program alive. */
export class SilentConnections {
  readonly #watched = new Map<Connection, Watched>()
  #timer: NodeJS.Timeout | undefined
  #lastTick = 0
  #stall = { ms: 0, endedAt: Number.NEGATIVE_INFINITY }

  /** Watches a connection until it closes. */
  watch(connection: Connection): void {
    this.#watched.set(connection, { connection, bytesRead: 0, silentTicks: 0, deadLooks: 0 })
    connection.once('close', () => {
      this.#watched.delete(connection)
      if (this.#watched.size > 0) return
      this.#noticeStall()
      clearInterval(this.#timer)
      this.#timer = undefined
    })
    if (this.#timer) return
    this.#lastTick = performance.now()
    this.#timer = setInterval(() => this.#tick(), TICK_MS).unref()
  }

  /** The connections do not keep the program alive, until grpc-js says otherwise. */
  unref(): void {
    for (const connection of this.#watched.keys()) connection.unref()
  }

  /**
   * How long this program did not get to answer its peers, in milliseconds, if that was now or a moment ago; otherwise 0.
   */
  get stalledMs(): number {
    this.#noticeStall()
    return performance.now() - this.#stall.endedAt < BLAMED_MS ? this.#stall.ms : 0
  }

  /** Also called before the tick that follows a stall: a connection may close first. */
  #noticeStall(): void {
    const now = performance.now()
    const ms = now - this.#lastTick
    if (this.#timer && ms > STALL_MS) this.#stall = { ms, endedAt: now }
  }

  #tick(): void {
    this.#noticeStall()
    this.#lastTick = performance.now()
    const silent: Watched[] = []
    for (const watched of this.#watched.values()) {
      const { bytesRead } = watched.connection
      if (bytesRead !== watched.bytesRead) {
        watched.bytesRead = bytesRead
        watched.silentTicks = 0
        watched.deadLooks = 0
      } else if (++watched.silentTicks % LOOK_TICKS === 0) silent.push(watched)
    }
    if (silent.length > 0) void look(silent)
  }
}

async function look(silent: readonly Watched[]): Promise<void> {
  const table = await readTable()
  if (!table) return
  for (const watched of silent) {
    const { connection, bytesRead, silentTicks } = watched
    // A Unix socket has no ports, and is on this machine.
    if (connection.localPort === undefined) continue
    const key = `${connection.localPort} ${connection.remotePort}`
    // A connection that the peer has reset is in no table. Node does not hear of that where it has stopped reading.
    const why = table.has(key) ? table.get(key) : 'the peer has reset the connection'
    watched.deadLooks = why === undefined ? 0 : watched.deadLooks + 1
    if (watched.deadLooks < LOOKS || connection.destroyed || connection.bytesRead !== bytesRead) continue
    connection.destroy(new Error(`nothing has arrived for ${silentTicks} s, and ${why}`))
  }
}

/**
 * The TCP connections of this machine, by `LOCAL_PORT REMOTE_PORT`, with the reason for which nothing can arrive on them, if
 * there is one. Two peers with the same port on different machines are told apart by neither; then the connection counts as
 * alive unless all of them are dead. Undefined where there is no such table.
 */
async function readTable(): Promise<Map<string, string | undefined> | undefined> {
  const found = new Map<string, string | undefined>()
  for (const file of ['/proc/self/net/tcp', '/proc/self/net/tcp6']) {
    const table = await readFile(file, 'latin1').catch(() => '')
    for (const [, local, remote, unacknowledged, unread, timer, resent, probes] of table.matchAll(ROW)) {
      const key = `${hex(local)} ${hex(remote)}`
      const why = verdict(hex(unacknowledged), hex(unread), hex(timer), hex(resent), Number(probes))
      if (why === undefined || !found.has(key)) found.set(key, why)
    }
  }
  // Some sandboxes have a table that is always empty.
  return found.size > 0 ? found : undefined
}

/** Ports, state (not TIME_WAIT), tx_queue and rx_queue, the kind of timer, retransmissions, unanswered window probes. */
const ROW =
  /^ *\d+: [\dA-F]+:([\dA-F]{4}) [\dA-F]+:([\dA-F]{4}) (?!06)[\dA-F]{2} ([\dA-F]+):([\dA-F]+) ([\dA-F]{2}):[\dA-F]+ ([\dA-F]+) +\d+ +(\d+) /gm

const hex = (digits = '0'): number => Number.parseInt(digits, 16)

const RETRANSMITS = 1
const PROBES_WINDOW = 4

function verdict(
  unacknowledged: number,
  unread: number,
  timer: number,
  resent: number,
  probes: number,
): string | undefined {
  if ((timer === RETRANSMITS && resent > 0) || (timer === PROBES_WINDOW && probes > 0)) {
    return "the peer's machine acknowledges nothing"
  }
  // Node reads whenever nothing waits to be written. Where it does not, it has given the connection up and not closed it.
  return unread > 0 && unacknowledged === 0 ? 'what has arrived is not read' : undefined
}
