import type { Failure } from '../../wire/failure.js'
import { type GroupHead, headOf, NO_ARGS } from '../../wire/framing/call-codec.js'
import { withWholeTimeout } from '../../wire/timeout.js'
import { atDeadline } from './resend.js'
import type { ChunkFailure, FunctionCall, Sink, Ticket } from './transport.js'

/**
 * Takes single calls, and chunks as calls of their own. Implemented by Session (the calls travel in one stream) and by
 * InProcessTransport. Called by the transports for each apply, and by ChunksRun for each chunk of a map.
 */
export interface CallPort {
  /** Whether there is a server that ends calls at their deadlines and can be reached now. */
  readonly serverEndsCalls: boolean
  /** Starts a call. The Sink is called back after this has returned, once. The Ticket cancels the call. */
  begin(head: GroupHead, args: readonly Uint8Array[], chunk: Uint8Array | undefined, sink: Sink): Ticket
}

/**
 * A call that the client ends at its deadline: a server might not answer, and the engine knows no deadlines. The failure that
 * it gets names the call's whole timeout.
 */
export class CallWithDeadline implements Sink, Ticket {
  readonly #ticket: Ticket
  readonly #stopTimer: () => void

  constructor(
    port: CallPort,
    private readonly call: FunctionCall,
    private readonly sink: Sink,
  ) {
    this.#stopTimer = atDeadline(
      call,
      (reason) => this.cancel(reason),
      () => port.serverEndsCalls,
    )
    this.#ticket = port.begin(headOf(call, NO_ARGS), call.args, undefined, this)
  }

  settle(payload: Uint8Array | undefined, failures: readonly ChunkFailure[]): void {
    this.#stopTimer()
    const { timeoutMs } = this.call
    this.sink.settle(
      payload,
      failures.map((one) => ({ ...one, failure: withWholeTimeout(one.failure, timeoutMs) })),
    )
  }

  fail(reason: Failure): void {
    this.#stopTimer()
    this.sink.fail(withWholeTimeout(reason, this.call.timeoutMs))
  }

  cancel(reason: Failure): void {
    this.#ticket.cancel(reason)
  }
}
