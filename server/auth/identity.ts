import type { EnginePool } from '../../pool/engine.js'
import type { Client, Identity } from '../../pool/scheduler/task.js'
import { Failure } from '../../wire/failure.js'
import { RETRY_MS } from '../../wire/protocol.js'
import type { Account } from '../limits/memory-budget.js'
import { NO_RULES, type Rules } from './rules.js'

/**
 * Who calls. Sessions, request ids and owned pools belong to a principal, and no other one can reach them.
 *
 *   Principal ◀── Credential ◀── Caller ──▶ Account
 *   a name        a token        a credential on a connection
 */
export class Principal implements Identity {
  static #count = 0
  readonly #number = ++Principal.#count
  /** Its owned pools that are open. */
  readonly pools = new Set<EnginePool>()
  /** Its open connections. A connection through a proxy may be that of several principals. */
  readonly connections = new Set<object>()
  /** Streams that are not read because too many of its tasks wait. */
  readonly paused = new Set<() => void>()
  #isResuming = false

  constructor(
    readonly name: string,
    public rules: Rules = NO_RULES,
  ) {}

  /** The key of something that belongs to it, in a table of all principals. Also after it is gone, no other one has this key. */
  keyOf(id: string): string {
    return `${this.#number} ${id}`
  }

  /** Fewer of its tasks may wait now: the paused streams look again. */
  resume(): void {
    if (this.#isResuming) return
    this.#isResuming = true
    setImmediate(() => {
      this.#isResuming = false
      const streams = [...this.paused]
      this.paused.clear()
      for (const look of streams) look()
    })
  }

  /** @throws Failure QUEUE_FULL if it may have no further pool of this size. */
  checkPool(processes: number): void {
    const { pools: most, processes: mostProcesses } = this.rules
    if (most !== undefined && this.pools.size >= most) throw this.#over('pools', this.pools.size, most)
    const existing = [...this.pools].reduce((sum, { options }) => sum + options.processes, 0)
    if (mostProcesses !== undefined && existing + processes > mostProcesses) {
      throw this.#over('processes', existing, mostProcesses)
    }
  }

  /**
   * @param count counts its waiting tasks. Most principals have no such rule, so it is not always called.
   * @param allowance how many more than the rule may wait.
   * @throws Failure QUEUE_FULL if too many of its tasks wait.
   */
  checkQueued(count: () => number, allowance = 0): void {
    const { queued } = this.rules
    if (queued === undefined) return
    const waiting = count()
    if (waiting >= queued + allowance) throw this.#over('tasks', waiting, queued)
  }

  /** @throws Failure QUEUE_FULL if it may have no further connection. */
  addConnection(connection: object): void {
    const { size } = this.connections
    const { connections: most } = this.rules
    if (this.connections.has(connection)) return
    if (most !== undefined && size >= most) throw this.#over('connections', size, most)
    this.connections.add(connection)
  }

  #over(what: string, has: number, most: number): Failure {
    const message = `${JSON.stringify(this.name)} has ${has} ${what}; its rules allow ${most}. Try again later`
    return new Failure('QUEUE_FULL', message, {
      retryDelayMs: RETRY_MS,
      metadata: { limit: String(most), of: 'client', what },
    })
  }
}

/** A call that is under way. */
export interface EndableCall {
  end(reason: Failure): void
}

/** What a caller has shown: a token, a certificate, or nothing. */
export class Credential {
  readonly #calls = new Set<EndableCall>()
  #revoked: Failure | undefined

  /**
   * @param digest of a token.
   * @param isRevocable false for callers who have shown nothing, where that is allowed.
   */
  constructor(
    readonly principal: Principal,
    readonly digest?: Buffer,
    readonly isRevocable = true,
  ) {}

  /** Why it is not valid any more. */
  get revoked(): Failure | undefined {
    return this.#revoked
  }

  /** The call ends when the credential is revoked, until `remove`. */
  add(call: EndableCall): void {
    this.#calls.add(call)
    if (this.#revoked) call.end(this.#revoked)
  }

  remove(call: EndableCall): void {
    this.#calls.delete(call)
  }

  revoke(reason: Failure): void {
    this.#revoked = reason
    for (const call of [...this.#calls]) call.end(reason)
  }
}

/** A credential on one connection: the client of its single RPCs. */
export class Caller implements Client {
  /** Nothing paces single RPCs: if too many of their tasks wait, further ones are refused. */
  readonly isPaced = false

  /** @param identity the key of fairness: the principal, or the connection of a caller without a name. */
  constructor(
    readonly account: Account,
    readonly credential: Credential,
    readonly identity: Identity,
  ) {}

  get principal(): Principal {
    return this.credential.principal
  }

  get isFull(): boolean {
    return this.account.isFull
  }
}
