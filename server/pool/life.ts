import type { Failure } from '../../wire/failure.js'
import type { Crew } from './crew.js'
import type { Edges } from './edges.js'
import type { Ledger } from './ledger.js'
import type { TaskQueue } from './queue.js'
import { notRunAgain, type PoolState, refusal, terminated } from './state.js'

/**
 * Whether a pool takes tasks, and what becomes of those that it has when it does not (P4, P7):
 *
 *        break                close            no work left
 *   broken ◀──▶ open ─────────────▶ closing ─────────────────▶ closed
 *        recover │ ╲ terminate     ╱    │
 *           fail ▼  ▶ terminated ◀      ▼ fail, break
 *             failed                 failed
 */
export class Life {
  #state: PoolState = { kind: 'open' }
  /** Requests that were accepted and still bring tasks. */
  #holds = 0
  #hasEnded = false

  constructor(
    private readonly queue: TaskQueue,
    private readonly crew: Crew,
    private readonly ledger: Ledger,
    private readonly edges: Edges,
  ) {}

  get state(): PoolState {
    return this.#state
  }

  /** Throws the Failure that says why a task is not accepted; one of a request that holds the pool is, while it closes. */
  check(held: boolean): void {
    if (this.#state.kind !== 'open' && !(held && this.#state.kind === 'closing')) throw refusal(this.#state)
  }

  hold(): () => void {
    this.check(false)
    this.#holds++
    return () => {
      this.#holds--
      this.settle()
    }
  }

  /** How many workers there should be. A broken pool tries with one. */
  wanted(processes: number): number {
    if (this.#state.kind === 'open' || (this.#state.kind === 'closing' && this.#isBusy)) return processes
    return this.#state.kind === 'broken' ? 1 : 0
  }

  /** Whether a task whose worker died can run again. */
  get runs(): boolean {
    return this.#state.kind === 'open' || this.#state.kind === 'closing' || this.#state.kind === 'broken'
  }

  close(): void {
    if (this.#state.kind !== 'open' && this.#state.kind !== 'broken') return
    this.#state = { kind: 'closing' }
    this.settle()
  }

  terminate(): void {
    if (this.#state.kind === 'terminated' || (this.#state.kind === 'closed' && this.#hasEnded)) return
    // Whoever still calls one that has failed is to hear why, as long as its processes die.
    if (this.#state.kind !== 'failed') this.#state = { kind: 'terminated' }
    for (const task of this.queue.drain()) this.ledger.cancel(task, terminated(task, task.attempt > 1))
    for (const slot of this.crew) {
      // One in a hand may have begun before that was heard here.
      for (const task of slot.hand) this.ledger.cancel(task, terminated(task, task.started || 'unknown'))
      this.edges.kill(slot.id)
    }
    this.settle()
  }

  /** Its workers cannot start, and never will. */
  fail(failure: Failure): void {
    if (!this.runs) return
    this.#state = { kind: 'failed', failure }
    this.#failQueued(failure)
  }

  /** Its workers die as soon as they start. One that could once may again: it goes on trying. */
  break(failure: Failure): void {
    if (this.#state.kind !== 'open' && this.#state.kind !== 'broken') return this.fail(failure)
    this.#state = { kind: 'broken', failure }
    this.#failQueued(failure)
  }

  /** A worker is ready. */
  recover(): void {
    if (this.#state.kind === 'broken') this.#state = { kind: 'open' }
  }

  /** P7: where no work is left for a pool that takes none, its workers end; after the last one, so does the pool. */
  settle(): void {
    if (this.#state.kind === 'open' || this.#state.kind === 'broken' || this.#hasEnded) return
    if (this.#state.kind !== 'terminated' && !this.#isBusy) {
      if (this.#state.kind === 'closing') this.#state = { kind: 'closed' }
      for (const slot of this.crew)
        if (slot.phase === 'idle' || slot.phase === 'starting') this.edges.stop(this.crew.stop(slot))
    }
    if (this.crew.size > 0) return
    // Where the pool has failed: what came back from its last workers.
    this.#failQueued(refusal(this.#state))
    this.#hasEnded = true
    this.edges.ended()
  }

  get #isBusy(): boolean {
    return this.ledger.open > 0 || (this.#holds > 0 && this.#state.kind === 'closing')
  }

  #failQueued(failure: Failure): void {
    for (const task of this.queue.drain()) {
      this.ledger.fail(task, task.crash ? notRunAgain(task.crash, failure) : failure)
    }
  }
}
