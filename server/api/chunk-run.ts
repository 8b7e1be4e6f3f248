import type { Pool } from '../../pool/pool.js'
import { failed, type Job, type Outcome, type Owner, type Task } from '../../pool/scheduler/task.js'
import type { MapRequest } from '../../proto/gen/farpool/routing/v1/routing.js'
import { asFailure, type Failure } from '../../wire/failure.js'
import type { Call } from '../grpc/adapter.js'
import { checkSize } from './apply-rpc.js'
import { Channel } from './channel.js'
import { once } from './once.js'
import type { RpcContext } from './rpc-context.js'
import { jobOf } from './submission.js'

/** What became of one chunk of a request. */
export interface ChunkResult {
  readonly chunk: number
  readonly outcome: Outcome
}

/**
 * The chunks of one Map or IMap in the pool. At most `window` of them have been submitted and not yet been taken, so
 * that a reader who stops reading stops the work, and one large request does not fill the queue.
 */
export class ChunkRun implements Owner {
  readonly #channel = new Channel<ChunkResult>()
  /** Those that have not ended. */
  readonly #tasks = new Map<number, Task>()
  readonly #pool: Pool
  readonly #job: Job
  /** Lets the pool end: called when every chunk has been submitted, or none will be. */
  readonly #release: () => void
  #submitted = 0
  #taken = 0
  #hasBegun = false

  /** Throws a Failure where the request is wrong; otherwise the first chunks have been submitted. */
  constructor(
    private readonly context: RpcContext,
    private readonly request: MapRequest,
    private readonly window: number,
    call: Call,
    /** Told of the bytes of each result. */
    private readonly hold: (bytes: number) => void,
  ) {
    const { pool, job } = jobOf(context, request, call.client)
    this.#pool = pool
    this.#job = job
    this.#release = once(this.#pool.hold())
    try {
      this.#submit()
    } catch (error) {
      this.#release()
      throw error
    }
    call.onEnd((reason) => this.end(reason))
  }

  /** Outcomes that are ready, in the order in which they ended; none when every chunk's outcome has been taken. */
  async take(): Promise<ChunkResult[]> {
    if (this.#taken === this.request.chunks.length) return []
    const results = await this.#channel.take()
    this.#taken += results.length
    this.#submit()
    return results
  }

  /** The first failure of a chunk, with its place, as that of the whole request. */
  failureOf({ chunk, outcome }: ChunkResult): Failure | undefined {
    const failure = firstFailure(chunk, outcome)
    const mayHaveBegun = this.#hasBegun || this.#tasks.size > 0
    return mayHaveBegun && failure?.invitesResending ? failure.ofOneAmongMany() : failure
  }

  /** Drops what is not done; `take` then throws the reason. */
  end(reason: Failure): void {
    this.#channel.end(reason)
    const tasks = [...this.#tasks.values()]
    this.#tasks.clear()
    for (const task of tasks) this.#pool.end(task, reason)
    this.#submitted = this.request.chunks.length
    this.#release()
  }

  settled(chunk: number, outcome: Outcome): void {
    this.#tasks.delete(chunk)
    this.#hasBegun ||= outcome.ok || outcome.failure.started !== false
    const checked = checkSize(outcome, this.context.limits.maxMessageBytes)
    if (checked.ok) this.hold(checked.payload.length)
    this.#channel.push({ chunk, outcome: checked })
  }

  #submit(): void {
    const { chunks } = this.request
    while (this.#submitted < chunks.length && this.#submitted - this.#taken < this.window) {
      const chunk = this.#submitted++
      try {
        // A request that has been let in is not refused in its middle for want of room: its window bounds it.
        this.#tasks.set(chunk, this.#pool.submit(this.#job, undefined, chunks[chunk], this, chunk, chunk > 0))
      } catch (error) {
        if (chunk === 0) throw error
        // The pool has ended meanwhile: this chunk never started.
        this.#channel.push({ chunk, outcome: failed(asFailure(error)) })
      }
    }
    if (this.#submitted === chunks.length) this.#release()
  }
}

function firstFailure(chunk: number, outcome: Outcome): Failure | undefined {
  if (!outcome.ok) return outcome.failure.with({ chunk: String(chunk) })
  const first = outcome.failures[0]
  return first?.failure.with({ chunk: String(chunk), item: String(first.item) })
}
