import type { Identity } from '../../pool/scheduler/task.js'
import type { Session } from '../../proto/gen/farpool/routing/v1/routing.js'
import { Failure } from '../../wire/failure.js'
import { RESUME_MS } from '../../wire/protocol.js'

const MIN_ID_BYTES = 16
const MAX_ID_BYTES = 64

/** Sessions that may be without a stream at once. Beyond that, the oldest of the identity that has most of them ends. */
export const MAX_DETACHED = 1_000

/** What the table needs of a session. CallStream implements it. */
export interface Resumable {
  readonly identity: Identity
  /** Ends its calls, and forgets the outcomes that were not sent. */
  end(reason: Failure): void
}

/** The sessions of a server. A session outlives its stream by RESUME_MS; a new stream of the same id resumes it. */
export class SessionTable<S extends Resumable> {
  readonly #byId = new Map<string, S>()
  /** The timers of sessions without a stream, the oldest first. */
  readonly #detached = new Map<string, NodeJS.Timeout>()

  /**
   * The session that a new stream begins or resumes.
   * @throws Failure BAD_REQUEST for an id that is too short, too long or in use; SESSION_LOST if it cannot be resumed.
   */
  attach({ id, resumed }: Session, create: () => S): S {
    const bytes = Buffer.byteLength(id)
    if (bytes < MIN_ID_BYTES || bytes > MAX_ID_BYTES) {
      const message = `the session's id has ${bytes} bytes; it must have ${MIN_ID_BYTES} to ${MAX_ID_BYTES}`
      throw new Failure('BAD_REQUEST', message)
    }
    const known = this.#byId.get(id)
    if (resumed) {
      if (!known) throw new Failure('SESSION_LOST', 'this server does not know the session, or no more')
      this.#stopTimer(id)
      return known
    }
    if (known) {
      throw new Failure('BAD_REQUEST', 'a session of this id is there already; a stream that goes on with it says so')
    }
    const session = create()
    this.#byId.set(id, session)
    return session
  }

  /** The session's stream has broken. */
  detach(id: string): void {
    if (!this.#byId.has(id) || this.#detached.has(id)) return
    this.#detached.set(
      id,
      setTimeout(() => this.#expire(id), RESUME_MS),
    )
    if (this.#detached.size > MAX_DETACHED) this.#expire(this.#oldestOfMost())
  }

  /** The session has ended. */
  remove(id: string): void {
    this.#stopTimer(id)
    this.#byId.delete(id)
  }

  /** No stream will come any more: ends the sessions without one. */
  close(): void {
    for (const id of [...this.#detached.keys()]) this.#expire(id)
  }

  /** The oldest session of the identity that has most of the detached ones. */
  #oldestOfMost(): string {
    const byIdentity = new Map<Identity | undefined, { readonly oldest: string; count: number }>()
    let most = { oldest: '', count: 0 }
    for (const id of this.#detached.keys()) {
      const identity = this.#byId.get(id)?.identity
      const entry = byIdentity.get(identity) ?? { oldest: id, count: 0 }
      byIdentity.set(identity, entry)
      if (++entry.count > most.count) most = entry
    }
    return most.oldest
  }

  #expire(id: string): void {
    const session = this.#byId.get(id)
    this.remove(id)
    session?.end(new Failure('CANCELLED', 'the client of the call is gone'))
  }

  #stopTimer(id: string): void {
    clearTimeout(this.#detached.get(id))
    this.#detached.delete(id)
  }
}
