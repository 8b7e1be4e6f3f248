import type { CallFacts, FailureFacts, Fault } from './history.js'

/** A call that has failed, with all that may be a cause of it. */
export interface FailedCall {
  readonly client: number
  readonly facts: CallFacts
  readonly failure: FailureFacts
  readonly at: number
  /** When terminate or close of its pool was called; Infinity for never. */
  readonly poolEndedFrom: number
}

/** The server may have measured the time of a call from a little earlier than its caller wrote it down. */
const CLOCK_MS = 5

/** What breaks connections. */
const CONNECTION = ['cut', 'reset', 'restart', 'server-kill']

/** What the faults explain. A failure that nothing explains is a violation. */
export class Causes {
  readonly #first = new Map<string, number>()
  readonly #killed = new Set<number>()

  constructor(faults: readonly Fault[]) {
    for (const { kind, at, target } of faults) {
      for (const name of [kind, `${kind} ${target}`]) {
        this.#first.set(name, Math.min(at, this.#first.get(name) ?? Number.POSITIVE_INFINITY))
      }
      if (kind === 'kill') this.#killed.add(target)
    }
  }

  /** Why this failure cannot be; undefined where it can. */
  contradiction({ client, facts, failure, at, poolEndedFrom }: FailedCall): string | undefined {
    const isBroken = this.mayHaveBroken(client, at)
    switch (failure.reason) {
      case 'FUNCTION_ERROR':
        return ['fail', 'mixed'].includes(facts.function) ? undefined : `${facts.function} throws nothing`
      case 'WORKER_CRASHED':
        if (failure.pid !== 0 && facts.function !== 'crash' && !this.#killed.has(failure.pid)) {
          return `nobody killed the worker ${failure.pid}`
        }
        return failure.attempt === facts.retries + 1
          ? undefined
          : `attempt ${failure.attempt} was not the last of ${facts.retries + 1}`
      case 'TASK_TIMEOUT':
        if (facts.timeout === 0) return 'it had no timeout'
        return at - facts.at >= facts.timeout - CLOCK_MS
          ? undefined
          : `it came ${(facts.timeout - at + facts.at).toFixed(0)} ms before the timeout`
      case 'CANCELLED':
        return facts.givenUp ? undefined : 'nobody gave it up'
      case 'CONNECTION_FAILED':
      case 'CONNECTION_LOST':
        return isBroken ? undefined : 'no connection was broken'
      case 'SERVER_DRAINING':
        return this.#before('restart', at) ? undefined : 'no server was told to end'
      case 'POOL_TERMINATED':
        // One that is owned ends with its lease, also with one that breaks.
        return poolEndedFrom <= at || isBroken || this.#before('restart', at) ? undefined : 'nobody terminated its pool'
      case 'POOL_CLOSED':
      case 'POOL_NOT_FOUND':
        return poolEndedFrom <= at || isBroken ? undefined : 'nobody closed its pool'
      case 'INITIALIZER_FAILED':
        return facts.function === 'prepared' && facts.retries === 0 ? undefined : 'its initializer does not fail'
      case 'NO_WORKERS':
        return this.#killed.size > 2 ? undefined : 'its workers could start'
      default:
        return 'this can have no cause'
    }
  }

  /** Whether the lease of a pool of this client may have broken before it was ended. */
  mayHaveBroken(client: number, at: number): boolean {
    return CONNECTION.some((kind) => this.#before(kind === 'cut' ? `cut ${client}` : kind, at))
  }

  #before(name: string, at: number): boolean {
    return (this.#first.get(name) ?? Number.POSITIVE_INFINITY) <= at
  }
}
