import type { CallFacts, FailureFacts, Fault } from './history.js'

/** A failed call, with everything that may have caused the failure. */
export interface FailedCall {
  readonly client: number
  readonly facts: CallFacts
  readonly failure: FailureFacts
  readonly at: number
  /** The time when terminate or close of its pool was called; Infinity if it was not. */
  readonly poolEndedFrom: number
}

/** Tolerance: the server's timer may start a little before the client records the call. */
const CLOCK_MS = 5

/** The faults that break connections. */
const CONNECTION = ['cut', 'reset', 'restart', 'server-kill']

/** Tells which failures the injected faults explain. Any other failure is a violation. */
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

  /** Returns why nothing explains this failure; undefined if something does. */
  contradiction({ client, facts, failure, at, poolEndedFrom }: FailedCall): string | undefined {
    const isBroken = this.mayHaveBroken(client, at)
    switch (failure.reason) {
      case 'FUNCTION_ERROR':
        return ['fail', 'mixed'].includes(facts.function) ? undefined : `${facts.function} does not throw`
      case 'WORKER_CRASHED':
        if (failure.pid !== 0 && facts.function !== 'crash' && !this.#killed.has(failure.pid)) {
          return `the worker ${failure.pid} was not killed`
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
        return facts.givenUp ? undefined : 'its caller did not cancel it'
      case 'CONNECTION_FAILED':
      case 'CONNECTION_LOST':
        return isBroken ? undefined : 'no connection was broken'
      case 'SERVER_DRAINING':
        return this.#before('restart', at) ? undefined : 'no server was told to shut down'
      case 'POOL_TERMINATED':
        // An owned pool ends when its lease ends or breaks.
        return poolEndedFrom <= at || isBroken || this.#before('restart', at)
          ? undefined
          : 'its pool was not terminated'
      case 'POOL_CLOSED':
      case 'POOL_NOT_FOUND':
        return poolEndedFrom <= at || isBroken ? undefined : 'its pool was not closed'
      case 'INITIALIZER_FAILED':
        return facts.function === 'prepared' && facts.retries === 0 ? undefined : 'its initializer does not fail'
      case 'NO_WORKERS':
        return this.#killed.size > 2 ? undefined : 'fewer than three workers were killed'
      default:
        return 'no fault causes this reason'
    }
  }

  /** True if a connection of this client, and so a lease, may have broken before `at`. */
  mayHaveBroken(client: number, at: number): boolean {
    return CONNECTION.some((kind) => this.#before(kind === 'cut' ? `cut ${client}` : kind, at))
  }

  #before(name: string, at: number): boolean {
    return (this.#first.get(name) ?? Number.POSITIVE_INFINITY) <= at
  }
}
