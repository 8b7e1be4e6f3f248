import { OnError } from '../../proto/gen/farpool/v1/pool_service.js'
import type { Failure } from '../../wire/failure.js'
import type { GroupHead } from '../../wire/framing/call-codec.js'
import { atDeadline } from './resend.js'
import type { ChunkFailure, FunctionCall, Sink, Ticket } from './transport.js'

/**
 * Takes single calls, and chunks as calls of their own. Implemented by a Session (the calls travel in one stream) and by
 * the engine port of a local pool. Called by `beginCall`, and by ChunksRun for each chunk of a map.
 */
export interface CallPort {
  /** Starts a call and returns its id. The Sink is called back in a later turn or microtask, once. */
  begin(head: GroupHead, args: readonly Uint8Array[], chunk: Uint8Array | undefined, sink: Sink): number
  /** The call fails with this reason, soon. Nothing happens if it has ended. */
  cancel(id: number, reason: Failure): void
}

/** The arguments of a group, or of a chunk, that has none of its own. */
export const NO_ARGS: readonly Uint8Array[] = []

/** The fields that a call can share with others; the calls of one group have equal heads. */
export const headOf = (call: FunctionCall, args: readonly Uint8Array[]): GroupHead => ({
  pool: call.pool,
  function: call.function,
  args: args as Uint8Array[],
  kwargs: call.kwargs,
  replyKind: call.replyKind,
  retries: call.retries,
  queueTimeoutMs: call.queueTimeoutMs,
  runTimeoutMs: call.runTimeoutMs,
  spread: false,
  onError: OnError.ON_ERROR_UNSPECIFIED,
  timeoutMs: call.deadline === undefined ? 0 : Math.max(1, Math.ceil(call.deadline - Date.now())),
})

/** Whether calls with these heads can share what is made of a head. Bound values are compared by identity. */
export const isSameHead = (a: GroupHead, b: GroupHead): boolean =>
  a === b ||
  (a.function === b.function &&
    a.pool === b.pool &&
    a.args.length === 0 &&
    b.args.length === 0 &&
    a.kwargs === b.kwargs &&
    a.replyKind === b.replyKind &&
    a.retries === b.retries &&
    a.queueTimeoutMs === b.queueTimeoutMs &&
    a.runTimeoutMs === b.runTimeoutMs &&
    a.spread === b.spread &&
    a.onError === b.onError &&
    a.timeoutMs === b.timeoutMs)

/** Starts one call through a port. */
export function beginCall(port: CallPort, call: FunctionCall, sink: Sink): Ticket {
  const { deadline } = call
  if (deadline !== undefined) return new CallWithDeadline(port, call, deadline, sink)
  return new PortTicket(port, port.begin(headOf(call, NO_ARGS), call.args, undefined, sink))
}

class PortTicket implements Ticket {
  constructor(
    private readonly port: CallPort,
    private readonly id: number,
  ) {}

  cancel(reason: Failure): void {
    this.port.cancel(this.id, reason)
  }
}

/** A call that the client ends at its deadline: a server might not answer, and a local pool knows no deadlines. */
class CallWithDeadline implements Sink, Ticket {
  readonly #id: number
  readonly #stopTimer: () => void

  constructor(
    private readonly port: CallPort,
    call: FunctionCall,
    deadline: number,
    private readonly sink: Sink,
  ) {
    this.#stopTimer = atDeadline(deadline, (reason) => this.cancel(reason))
    this.#id = port.begin(headOf(call, NO_ARGS), call.args, undefined, this)
  }

  settle(payload: Uint8Array | undefined, failures: readonly ChunkFailure[]): void {
    this.#stopTimer()
    this.sink.settle(payload, failures)
  }

  fail(reason: Failure): void {
    this.#stopTimer()
    this.sink.fail(reason)
  }

  cancel(reason: Failure): void {
    this.port.cancel(this.#id, reason)
  }
}
