import type { Identity } from '../../pool/scheduler/task.js'
import type { Session } from '../../proto/gen/farpool/routing/v1/routing.js'
import { Failure } from '../../wire/failure.js'
import { RESUME_MS } from '../../wire/protocol.js'
import type { Credential, Principal } from '../auth/identity.js'

const MIN_ID_BYTES = 16
const MAX_ID_BYTES = 64

/** Sessions that may be without a stream at once. Beyond that, the oldest of the identity that has most of them ends. */
export const MAX_DETACHED = 1_000

/** What the table needs of a session. CallStream implements it. */
export interface Resumable {
  readonly identity: Identity
  readonly credential: Credential
  /** Ends its calls, and forgets the outcomes that were not sent. */
  end(reason: Failure): void
}

/**
 * The sessions of a server. A session outlives its stream by RESUME_MS; a new stream of the same id resumes it. Each principal
 * has ids of its own.
 */
export class SessionTable<S extends Resumable> {
  /** By Principal.keyOf. */
  readonly #byKey = new Map<string, S>()
  /** The timers of sessions without a stream, the oldest first. */
  readonly #detached = new Map<string, NodeJS.Timeout>()

  /**
   * The session that a new stream begins or resumes, and its key.
   * @throws Failure BAD_REQUEST for an id that is too short, too long or in use; SESSION_LOST if it cannot be resumed.
   */
  attach(
    { id, resumed }: Session,
    principal: Principal,
    create: () => S,
  ): { readonly key: string; readonly session: S } {
    const bytes = Buffer.byteLength(id)
    if (bytes < MIN_ID_BYTES || bytes > MAX_ID_BYTES) {
      const message = `the session's id has ${bytes} bytes; it must have ${MIN_ID_BYTES} to ${MAX_ID_BYTES}`
      throw new Failure('BAD_REQUEST', message)
    }
    const key = principal.keyOf(id)
    const known = this.#byKey.get(key)
    if (resumed) {
      if (!known) throw new Failure('SESSION_LOST', 'this server does not know the session, or no more')
      this.#stopTimer(key)
      return { key, session: known }
    }
    if (known) {
      throw new Failure('BAD_REQUEST', 'a session of this id is there already; a stream that goes on with it says so')
    }
    const session = create()
    this.#byKey.set(key, session)
    return { key, session }
  }

  /** The session's stream has broken. */
  detach(key: string): void {
    if (!this.#byKey.has(key) || this.#detached.has(key)) return
    this.#detached.set(
      key,
      setTimeout(() => this.#expire(key), RESUME_MS),
    )
    if (this.#detached.size > MAX_DETACHED) this.#expire(this.#oldestOfMost())
  }

  /** The session has ended. */
  remove(key: string): void {
    this.#stopTimer(key)
    this.#byKey.delete(key)
  }

  /** Ends the sessions without a stream that this credential has left. */
  revoked(credential: Credential, reason: Failure): void {
    for (const key of [...this.#detached.keys()]) {
      if (this.#byKey.get(key)?.credential === credential) this.#expire(key, reason)
    }
  }

  /** No stream will come any more: ends the sessions without one. */
  close(): void {
    for (const key of [...this.#detached.keys()]) this.#expire(key)
  }

  /** The oldest session of the identity that has most of the detached ones. */
  #oldestOfMost(): string {
    const byIdentity = new Map<Identity | undefined, { readonly oldest: string; count: number }>()
    let most = { oldest: '', count: 0 }
    for (const key of this.#detached.keys()) {
      const identity = this.#byKey.get(key)?.identity
      const entry = byIdentity.get(identity) ?? { oldest: key, count: 0 }
      byIdentity.set(identity, entry)
      if (++entry.count > most.count) most = entry
    }
    return most.oldest
  }

  #expire(key: string, reason = new Failure('CANCELLED', 'the client of the call is gone')): void {
    const session = this.#byKey.get(key)
    this.remove(key)
    session?.end(reason)
  }

  #stopTimer(key: string): void {
    clearTimeout(this.#detached.get(key))
    this.#detached.delete(key)
  }
}
