import { Failure } from '../../wire/failure.js'
import { RETRY_MS } from '../../wire/protocol.js'

/**
 * Which connections a server keeps. Where a limit is reached, the connection that has been idle for the longest time makes
 * room for a new one. If none is idle, the new one goes to a small reserve, in which it gets answers to health checks only.
 * Health checks need no token, so they keep no connection: one that makes nothing else is idle.
 *
 *   new ──▶ admitted ──▶ closed       while a limit is not reached, or a connection is idle
 *    └────▶ reserve ──▶ admitted      with its first call that finds room
 *              └──────▶ closed        when it is the oldest, and the reserve is full
 */

/** Connections in the reserve. A health check takes one for a few round trips. */
export const RESERVE = 32

/** What is done where a limit is reached. */
export type Crowded = 'closesIdle' | 'healthOnly' | 'closesNew'

export interface Connection {
  /** Its IP address; undefined for a Unix socket, which has none. */
  readonly address: string | undefined
  /** Has its client connect anew with its next call. */
  readonly close: () => void
  /** Open calls, except health checks. */
  calls: number
}

export class ConnectionLimits {
  /** In the order in which connections became idle. Those with calls stand anywhere. */
  readonly #admitted = new Set<Connection>()
  /** The oldest first. */
  readonly #reserve = new Set<Connection>()
  readonly #byAddress = new Map<string, number>()

  constructor(
    private readonly limits: {
      readonly maxConnections: number
      readonly maxConnectionsPerAddress: number | undefined
    },
    private readonly crowded: (what: Crowded) => void,
  ) {}

  open(address: string | undefined, close: () => void): Connection {
    const connection: Connection = { address, close, calls: 0 }
    if (this.#admit(connection) === undefined) return connection
    this.crowded('healthOnly')
    const [oldest] = this.#reserve
    if (oldest && this.#reserve.size >= RESERVE) this.#close(oldest)
    this.#reserve.add(connection)
    return connection
  }

  /** It opens a call that is no health check. @returns the failure of that call. */
  begin(connection: Connection): Failure | undefined {
    connection.calls++
    return this.#reserve.has(connection) ? this.#admit(connection) : undefined
  }

  /** One of its calls has ended. */
  end(connection: Connection): void {
    if (--connection.calls === 0 && this.#admitted.delete(connection)) this.#admitted.add(connection)
  }

  /** It has closed, or is about to. */
  remove(connection: Connection): void {
    this.#reserve.delete(connection)
    if (this.#admitted.delete(connection)) this.#count(connection, -1)
  }

  /** @returns why it cannot be admitted. */
  #admit(connection: Connection): Failure | undefined {
    const { maxConnections, maxConnectionsPerAddress = Number.POSITIVE_INFINITY } = this.limits
    const { address } = connection
    const isOfAddress = (other: Connection) => other.address === address
    if (address !== undefined && (this.#byAddress.get(address) ?? 0) >= maxConnectionsPerAddress) {
      if (!this.#closeIdle(isOfAddress))
        return tooMany(`from ${address}`, 'max-connections-per-address', maxConnectionsPerAddress)
    }
    if (this.#admitted.size >= maxConnections && !this.#closeIdle())
      return tooMany('to this server', 'max-connections', maxConnections)
    this.#reserve.delete(connection)
    this.#admitted.add(connection)
    this.#count(connection, 1)
    return undefined
  }

  /** @returns false if none of them is idle. */
  #closeIdle(isCandidate: (other: Connection) => boolean = () => true): boolean {
    for (const connection of this.#admitted) {
      if (connection.calls > 0 || !isCandidate(connection)) continue
      this.#close(connection)
      this.crowded('closesIdle')
      return true
    }
    return false
  }

  #close(connection: Connection): void {
    this.remove(connection)
    connection.close()
  }

  #count({ address }: Connection, by: 1 | -1): void {
    if (address === undefined) return
    const count = (this.#byAddress.get(address) ?? 0) + by
    if (count === 0) this.#byAddress.delete(address)
    else this.#byAddress.set(address, count)
  }
}

const tooMany = (where: string, option: string, limit: number): Failure =>
  new Failure('QUEUE_FULL', `all connections ${where} have open calls, and there may be ${limit} (${option})`, {
    retryDelayMs: RETRY_MS,
    metadata: { what: 'connections' },
  })
