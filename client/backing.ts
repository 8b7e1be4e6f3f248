import { setTimeout as sleep } from 'node:timers/promises'
import { Failure } from '../wire/failure.js'
import { Resend } from './transport/resend.js'
import type { Lease, Transport } from './transport/transport.js'

/** Where the calls of a Pool go. */
export interface Target {
  /** The `pool` of a request; empty for the shared pool. */
  readonly pool: string
  readonly processes: number
}

/** What stands behind a Pool: the server's shared pool, a pool of its own, or a server of its own. */
export interface Backing {
  /** Where the calls go; rejects with the Failure that keeps them from it. */
  target(): Promise<Target>
  /** The same, once it is known. */
  readonly known: Target | undefined
  /** Why no more calls can be made; undefined while they can. */
  readonly failure: Failure | undefined
  /** After close(), when no call is under way: ends what is ours and resolves when it has ended. */
  finish(): Promise<void>
  /** Ends what is ours at once; resolves when its processes are gone. Never rejects. */
  terminate(): Promise<void>
}

/** The server's shared pool: nothing of it is ours to end. */
export class SharedBacking implements Backing {
  readonly failure = undefined
  #target: Promise<Target> | undefined
  #known: Target | undefined

  constructor(private readonly transport: Transport) {}

  get known(): Target | undefined {
    return this.#known
  }

  target(): Promise<Target> {
    this.#target ??= this.#ask()
    // Not remembered when it fails: the server may be there the next time.
    this.#target.catch(() => {
      this.#target = undefined
    })
    return this.#target
  }

  async #ask(): Promise<Target> {
    const resend = new Resend(undefined, () => this.transport.wasConnected)
    for (;;) {
      try {
        const { processes } = await this.transport.serverInfo()
        this.#known = { pool: '', processes }
        return this.#known
      } catch (error) {
        const delay = error instanceof Failure ? resend.delayOf(error) : undefined
        if (delay === undefined) throw error
        await sleep(delay)
      }
    }
  }

  async finish(): Promise<void> {}
  async terminate(): Promise<void> {}
}

/** A pool of our own: it lives as long as its lease. */
export class OwnedBacking implements Backing {
  #failure: Failure | undefined
  #known: Target | undefined

  constructor(
    private readonly transport: Transport,
    private readonly lease: Lease,
  ) {
    // Whoever calls is told; nobody has to.
    lease.opened.then(
      (target) => {
        this.#known = target
      },
      () => {},
    )
    void lease.ended.then((failure) => {
      this.#failure = failure ?? new Failure('POOL_CLOSED', 'the pool has ended')
    })
  }

  get failure(): Failure | undefined {
    return this.#failure
  }

  get known(): Target | undefined {
    return this.#known
  }

  target(): Promise<Target> {
    return this.lease.opened
  }

  async finish(): Promise<void> {
    try {
      const { pool } = await this.lease.opened
      await this.transport.closePool(pool)
      await this.lease.ended
    } catch {
      // The pool is gone already, which is what was asked for.
    } finally {
      this.lease.end()
    }
  }

  async terminate(): Promise<void> {
    try {
      const opened = await Promise.race([this.lease.opened, Promise.resolve(undefined)])
      if (opened) await this.transport.terminate(opened.pool)
    } catch {
      // The pool is gone already, which is what was asked for.
    } finally {
      this.lease.end()
      await this.lease.ended
    }
  }
}
