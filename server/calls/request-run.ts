import { failed, type Outcome } from '../../pool/scheduler/task.js'
import { asFailure, type Failure } from '../../wire/failure.js'
import { inPhase } from '../../wire/timeout.js'
import type { Principal } from '../auth/identity.js'
import {
  type CallContext,
  type CallsRequest,
  type CallTask,
  type JobTarget,
  type KnownClient,
  OpenCalls,
  resolveJob,
  waitingTasks,
} from './call-path.js'
import { Channel } from './channel.js'

/** The outcome of one task of a request. */
export interface RunResult {
  /** The index of the task: for a Map or an IMap, of its chunk. */
  readonly index: number
  readonly outcome: Outcome
}

/**
 * The tasks of one Apply, Map or IMap in the pool. At most `window` of them have been submitted and not been taken, so a
 * reader that stops reading stops the work, and a large request does not fill the queue. While as many tasks of its
 * principal wait as the rules allow, at most one of them is open.
 */
export class RequestRun {
  readonly #channel = new Channel<RunResult>()
  readonly #open: OpenCalls
  readonly #target: JobTarget
  readonly #tasks: readonly Omit<CallTask, 'id'>[]
  readonly #window: number
  readonly #principal: Principal
  /** Lets a closing pool end. Called when every task has been submitted, or none will be. */
  #release: (() => void) | undefined
  #submitted = 0
  #taken = 0
  #hasBegun = false

  /**
   * Submits the first tasks. @throws Failure if the request is wrong, or the pool refuses it.
   * @param tasks in order.
   * @param options `client`: whose tasks they are. `hold` is called with the bytes of each result.
   */
  constructor(
    private readonly context: CallContext,
    request: CallsRequest,
    tasks: readonly Omit<CallTask, 'id'>[],
    { window, client, hold }: { readonly window: number; readonly client: KnownClient; hold(bytes: number): void },
  ) {
    this.#tasks = tasks
    this.#window = window
    const { principal } = client
    this.#principal = principal
    this.#open = new OpenCalls(principal, context.maxMessageBytes, (index, outcome) => {
      this.#hasBegun ||= outcome.ok || outcome.failure.started !== false
      if (outcome.ok) hold(outcome.payload.length)
      this.#channel.push({ index, outcome })
    })
    this.#target = resolveJob(context, request, client)
    principal.checkQueued(() => waitingTasks(context, principal))
    this.#release = this.#target.pool.hold()
    try {
      this.#submit()
    } catch (error) {
      this.#releasePool()
      throw error
    }
  }

  /** Waits for outcomes, and returns those that are there, in the order in which they came; none when all have been taken. */
  async take(): Promise<RunResult[]> {
    if (this.#taken === this.#tasks.length) return []
    const results = await this.#channel.take()
    this.#taken += results.length
    this.#submit()
    return results
  }

  /** The first failure in a result, as the failure of the whole request; undefined if there is none. */
  failureOf({ index, outcome }: RunResult): Failure | undefined {
    const failure = firstFailure(index, outcome)
    const mayHaveBegun = this.#hasBegun || this.#open.size > 0
    return mayHaveBegun && failure?.invitesResending ? failure.ofOneAmongMany() : failure
  }

  /** Ends the tasks that are not done. Their outcomes are failures with this reason, which `take` still returns. */
  abort(reason: Failure): void {
    this.#open.endAll(reason)
  }

  /** Drops the tasks that are not done. `take` throws the reason from now on. */
  end(reason: Failure): void {
    this.#channel.end(inPhase(reason, this.#open.phase))
    this.#open.dropAll(reason)
    this.#submitted = this.#tasks.length
    this.#releasePool()
  }

  #submit(): void {
    while (this.#submitted < this.#tasks.length && this.#submitted - this.#taken < this.#window && this.#hasRoom) {
      const index = this.#submitted++
      const task = this.#tasks[index]
      if (!task) break
      try {
        // Queue limits refuse a request by its first task only. Later ones are bounded by the window.
        this.#open.submit(this.#target, { id: index, ...task }, index > 0)
      } catch (error) {
        if (index === 0) throw error
        // The pool has ended meanwhile: this task never began.
        this.#channel.push({ index, outcome: failed(asFailure(error)) })
      }
    }
    if (this.#submitted === this.#tasks.length) this.#releasePool()
  }

  /** With no task open, one more is always let through: without its outcome, nothing would submit the next. */
  get #hasRoom(): boolean {
    const { queued } = this.#principal.rules
    return queued === undefined || this.#open.size === 0 || waitingTasks(this.context, this.#principal) < queued
  }

  #releasePool(): void {
    this.#release?.()
    this.#release = undefined
  }
}

function firstFailure(index: number, outcome: Outcome): Failure | undefined {
  if (!outcome.ok) return outcome.failure.with({ chunk: String(index) })
  const first = outcome.failures[0]
  return first?.failure.with({ chunk: String(index), item: String(first.item) })
}
