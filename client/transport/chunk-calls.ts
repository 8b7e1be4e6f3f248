import { OnError } from '../../proto/gen/farpool/v1/pool_service.js'
import type { Failure } from '../../wire/failure.js'
import { type GroupHead, headOf, NO_ARGS } from '../../wire/framing/call-codec.js'
import { isOfRequest } from '../../wire/reason.js'
import { isCallTimeout, withWholeTimeout } from '../../wire/timeout.js'
import type { CallPort } from './call-port.js'
import { atDeadline, Resend } from './resend.js'
import {
  type ChunkFailure,
  type ChunkOutcome,
  type ChunksCall,
  isTooLarge,
  type Pending,
  type Sink,
  type Ticket,
  type Transport,
} from './transport.js'

/**
 * A refusal of one chunk is that of the whole request. A timeout of the request passes for all of its chunks; a limit of one
 * task is a failure of its chunk.
 */
const endsRequest = (failure: Failure): boolean =>
  isOfRequest(failure.reason) || failure.reason === 'BAD_REQUEST' || isCallTimeout(failure)

/**
 * The chunks of one request, over a CallPort. Each chunk is a call of its own, and is sent again by itself if the
 * server refuses it for now (T6). The first chunk that fails for good fails the request and cancels the other chunks,
 * unless it is too large (T9).
 */
export class ChunksRun implements Pending<void> {
  readonly outcome: Promise<void>
  readonly #chunks: ChunkCall[]
  #left: number
  #hasFailed = false
  readonly #stopTimer: () => void
  #resolve: () => void = () => {}
  #reject: (reason: Failure) => void = () => {}

  /** @param port gives the port that takes new calls now. */
  constructor(
    readonly transport: Pick<Transport, 'wasConnected'>,
    readonly port: () => CallPort,
    readonly call: ChunksCall,
    private readonly onOutcome: (outcome: ChunkOutcome) => void,
  ) {
    this.outcome = new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
    this.#left = call.chunks.length
    const serverEndsIt = () => port().serverEndsCalls
    this.#stopTimer =
      call.deadline === undefined ? () => {} : atDeadline(call, (reason) => this.cancel(reason), serverEndsIt)
    const head = chunkHeadOf(call)
    this.#chunks = call.chunks.map((payload, at) => new ChunkCall(this, head, payload, at))
  }

  cancel(reason: Failure): void {
    for (const chunk of this.#chunks) chunk.cancel(reason)
  }

  /** The request has failed: none of its chunks is sent again. */
  get hasFailed(): boolean {
    return this.#hasFailed
  }

  settled(outcome: ChunkOutcome): void {
    this.onOutcome(outcome)
    if (--this.#left > 0) return
    this.#stopTimer()
    this.#resolve()
  }

  failed(reason: Failure): void {
    // The chunks that are cancelled below call this again, and there may be a million of them.
    if (this.#hasFailed) return
    this.#hasFailed = true
    this.#stopTimer()
    const failure = withWholeTimeout(reason, this.call.timeoutMs)
    // Other chunks may have started.
    this.#reject(this.#chunks.length > 1 ? failure.ofOneAmongMany() : failure)
    this.cancel(reason)
  }
}

/** One chunk: under way in a port, or in a pause before it is sent again, or ended. */
class ChunkCall implements Sink {
  #ticket: Ticket
  #hasEnded = false
  #resend: Resend | undefined

  constructor(
    private readonly run: ChunksRun,
    head: GroupHead,
    private readonly payload: Uint8Array,
    private readonly at: number,
  ) {
    this.#ticket = run.port().begin(head, NO_ARGS, payload, this)
  }

  settle(payload: Uint8Array | undefined, failures: readonly ChunkFailure[]): void {
    if (this.#hasEnded) return
    const refusal = failures.find(({ item, failure }) => item === undefined && endsRequest(failure))
    if (refusal) return this.fail(refusal.failure)
    this.#hasEnded = true
    this.run.settled({ chunk: this.at, payload, failures })
  }

  fail(reason: Failure): void {
    // When a session ends, the first of its chunks may fail the request; the others get here after that.
    if (this.#hasEnded || this.run.hasFailed) return
    if (isTooLarge(reason)) return this.settle(undefined, [{ item: undefined, failure: reason }])
    this.#resend ??= new Resend(this.run.call.deadline, this.run.transport)
    if (!this.#resend.again(reason, () => this.#sendAgain())) this.#end(reason)
  }

  cancel(reason: Failure): void {
    if (this.#hasEnded) return
    if (!this.#resend?.isPausing) return this.#ticket.cancel(reason)
    this.#resend.stop()
    this.#end(reason)
  }

  #end(reason: Failure): void {
    this.#hasEnded = true
    this.run.failed(reason)
  }

  #sendAgain(): void {
    // With a new head: less of the timeout is left.
    this.#ticket = this.run.port().begin(chunkHeadOf(this.run.call), NO_ARGS, this.payload, this)
  }
}

/** The chunks of a request share one head by identity, so that they travel in one group. */
const chunkHeadOf = (call: ChunksCall): GroupHead => ({
  ...headOf(call, call.args),
  spread: call.spread,
  onError: call.failFast ? OnError.ON_ERROR_FAIL_FAST : OnError.ON_ERROR_UNSPECIFIED,
  allowPartial: true,
})
