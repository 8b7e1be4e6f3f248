import { asFailure, Failure } from '../wire/failure.js'
import type { Reason } from '../wire/reason.js'
import { Resend } from './transport/resend.js'
import type { Lease, Transport } from './transport/transport.js'

/** The pool on the server that runs the calls. */
export interface Target {
  /** The name of a shared pool, empty for `default`, or the id of an owned pool. */
  readonly pool: string
  readonly processes: number
}

/** The pool behind a Pool: a shared pool of the server, a pool of its own, or the pool of a server of its own. */
export interface Backing {
  /** Rejects with the Failure that keeps the calls from their target. */
  target(): Promise<Target>
  /** The same, once it is known. A property, because every apply reads it. */
  readonly known: Target | undefined
  /** The reason for which no more calls can be made; undefined while they can. */
  readonly failure: Failure | undefined
  /** Called after close(), when no call is under way. Ends what this Pool owns; resolves when it has ended. */
  finish(): Promise<void>
  /** Ends what this Pool owns at once; resolves when its processes are gone. Never rejects. */
  terminate(): Promise<void>
}

/** A shared pool of the server. This Pool owns nothing of it. */
export class SharedBacking implements Backing {
  known: Target | undefined
  readonly failure = undefined
  #target: Promise<Target> | undefined
  /** Ends the request for the server's information. */
  #stopAsking: (reason: Failure) => void = () => {}

  /** @param pool its name; empty for `default`. */
  constructor(
    private readonly transport: Transport,
    private readonly pool: string,
  ) {}

  target(): Promise<Target> {
    this.#target ??= this.#ask()
    // A failure is not kept: the next call asks again.
    this.#target.catch(() => {
      this.#target = undefined
    })
    return this.#target
  }

  async finish(): Promise<void> {
    this.#stopAsking(new Failure('POOL_CLOSED', 'the pool has been closed'))
  }

  async terminate(): Promise<void> {
    this.#stopAsking(new Failure('POOL_TERMINATED', 'the pool was terminated while the call was in flight'))
  }

  #ask(): Promise<Target> {
    const resend = new Resend(undefined, this.transport)
    return new Promise((resolve, reject) => {
      const send = () => {
        this.transport.serverInfo(this.pool).then(
          ({ processes }) => {
            this.known = { pool: this.pool, processes }
            resolve(this.known)
          },
          (error: unknown) => {
            if (!resend.again(asFailure(error), send)) reject(error)
          },
        )
      }
      this.#stopAsking = (reason) => {
        resend.stop()
        reject(reason)
      }
      send()
    })
  }
}

/** Failures with which a lease may end though this Pool is as good as before: another lease may succeed. */
const LOSSES: ReadonlySet<Reason> = new Set<Reason>([
  'CONNECTION_FAILED',
  'CONNECTION_LOST',
  'SERVER_DRAINING',
  'QUEUE_FULL',
  // The next lease may bring another token.
  'UNAUTHENTICATED',
])

/**
 * A pool of this Pool's own. It lives as long as its lease. If the lease is lost with its connection or its server, the
 * calls that are under way fail, and the next call opens another pool with the same options.
 */
export class OwnedBacking implements Backing {
  known: Target | undefined
  failure: Failure | undefined
  #lease: Lease
  #isLost = false
  /** This Pool itself ends its pool. */
  #isEnding = false

  constructor(
    private readonly transport: Transport,
    private readonly open: () => Lease,
  ) {
    this.#lease = this.#begin()
  }

  target(): Promise<Target> {
    if (this.#isLost) {
      this.#isLost = false
      this.#lease = this.#begin()
    }
    return this.#lease.opened
  }

  async finish(): Promise<void> {
    this.#isEnding = true
    try {
      const { pool } = await this.#lease.opened
      await this.transport.closePool(pool)
      await this.#lease.ended
    } catch {
      // The pool has ended already.
    } finally {
      this.#lease.end()
    }
  }

  async terminate(): Promise<void> {
    this.#isEnding = true
    try {
      if (this.known) await this.transport.terminate(this.known.pool)
    } catch {
      // The pool has ended already.
    } finally {
      this.#lease.end()
      await this.#lease.ended
    }
  }

  #begin(): Lease {
    const lease = this.open()
    lease.opened.then(
      (target) => {
        this.known = target
      },
      // Each call gets this failure from target().
      () => {},
    )
    void lease.ended.then((failure) => {
      this.known = undefined
      // Without a failure the server has ended the pool, for example because it drains.
      this.#isLost = !this.#isEnding && (failure === undefined || LOSSES.has(failure.reason))
      if (!this.#isLost) this.failure = failure ?? new Failure('POOL_CLOSED', 'the pool has ended')
    })
    return lease
  }
}
