import type { Session } from '../../proto/gen/farpool/routing/v1/routing.js'
import { Failure } from '../../wire/failure.js'
import { RESUME_MS } from '../../wire/protocol.js'

/** How many sessions may wait for a new stream at once; the oldest of the connection that has left most are given up. */
export const MAX_DETACHED = 1_000

const LEAST_ID_BYTES = 16
const MOST_ID_BYTES = 64

/** What a session consists of, as far as its life goes (calls.ts). */
export interface Resumable {
  /** The connection that it has, or had last. */
  readonly connection: object | undefined
  /** Gives up what has not ended, and forgets the rest. */
  end(reason: Failure): void
}

/** The sessions of a server: calls that outlive their stream for a while. */
export class Sessions<S extends Resumable> {
  readonly #byId = new Map<string, S>()
  /** Without a stream, the longest first. */
  readonly #detached = new Map<string, NodeJS.Timeout>()

  /**
   * The session that a stream begins with, made or taken up again.
   * @throws Failure BAD_REQUEST for a name that cannot be one, SESSION_LOST for a session that is not here.
   */
  attach({ id, resumed }: Session, make: () => S): S {
    const bytes = Buffer.byteLength(id)
    if (bytes < LEAST_ID_BYTES || bytes > MOST_ID_BYTES) {
      const message = `the session's id has ${bytes} bytes; it must have ${LEAST_ID_BYTES} to ${MOST_ID_BYTES}`
      throw new Failure('BAD_REQUEST', message)
    }
    const known = this.#byId.get(id)
    if (resumed) {
      if (!known) throw new Failure('SESSION_LOST', 'this server does not know the session, or no more')
      this.#stopWaiting(id)
      return known
    }
    if (known)
      throw new Failure('BAD_REQUEST', 'a session of this id is there already; a stream that goes on with it says so')
    const session = make()
    this.#byId.set(id, session)
    return session
  }

  /** Its stream has broken: it lives on for a while. */
  detach(id: string): void {
    if (!this.#byId.has(id) || this.#detached.has(id)) return
    this.#detached.set(
      id,
      setTimeout(() => this.#giveUp(id), RESUME_MS),
    )
    if (this.#detached.size > MAX_DETACHED) this.#giveUp(this.#oneOfMany())
  }

  /** The oldest of the connection that has left most. */
  #oneOfMany(): string {
    const left = new Map<object | undefined, { readonly oldest: string; count: number }>()
    let most = { oldest: '', count: 0 }
    for (const id of this.#detached.keys()) {
      const connection = this.#byId.get(id)?.connection
      const its = left.get(connection) ?? { oldest: id, count: 0 }
      left.set(connection, its)
      if (++its.count > most.count) most = its
    }
    return most.oldest
  }

  /** It has ended. */
  remove(id: string): void {
    this.#stopWaiting(id)
    this.#byId.delete(id)
  }

  /** No stream will come any more: those without one are given up. */
  close(): void {
    for (const id of [...this.#detached.keys()]) this.#giveUp(id)
  }

  #giveUp(id: string): void {
    const session = this.#byId.get(id)
    this.remove(id)
    session?.end(new Failure('CANCELLED', 'the client of the call is gone'))
  }

  #stopWaiting(id: string): void {
    clearTimeout(this.#detached.get(id))
    this.#detached.delete(id)
  }
}
