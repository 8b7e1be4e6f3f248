import { OnError } from '../proto/gen/farpool/v1/pool_service.js'
import type { GroupHead } from '../wire/call-codec.js'
import { Failure } from '../wire/failure.js'
import { MAX_TIMER_MS } from '../wire/limits.js'
import type { Reason } from '../wire/reason.js'
import { GrpcTransport } from './grpc-transport.js'
import type { ClientOptions } from './options.js'
import { Session } from './session.js'
import type {
  ChunkFailure,
  ChunkOutcome,
  ChunksCall,
  FunctionCall,
  Pending,
  Sink,
  Ticket,
  Transport,
} from './transport.js'

/**
 * Many calls in one stream: what is started in one turn of the event loop travels in one message, and outcomes come
 * back as many in a message as have ended. A lone call leaves in the turn in which it was made. All else (owned pools,
 * information) goes its own way.
 */
export class StreamTransport implements Transport {
  #session: Session | undefined
  readonly openPool: Transport['openPool']
  readonly closePool: Transport['closePool']
  readonly joinPool: Transport['joinPool']
  readonly terminate: Transport['terminate']
  readonly serverInfo: Transport['serverInfo']
  readonly functions: Transport['functions']
  readonly poolInfo: Transport['poolInfo']

  constructor(private readonly unary: GrpcTransport) {
    this.openPool = (call) => unary.openPool(call)
    this.closePool = (pool) => unary.closePool(pool)
    this.joinPool = (pool) => unary.joinPool(pool)
    this.terminate = (pool) => unary.terminate(pool)
    this.serverInfo = () => unary.serverInfo()
    this.functions = () => unary.functions()
    this.poolInfo = (pool) => unary.poolInfo(pool)
  }

  apply(call: FunctionCall, sink: Sink): Ticket {
    const session = this.#open()
    if (call.deadline !== undefined) return new Deadlined(session, call, call.deadline, sink)
    return new SessionTicket(session, session.begin(headOf(call, NO_ARGS), call.args, undefined, sink))
  }

  chunks(call: ChunksCall, onOutcome: (outcome: ChunkOutcome) => void): Pending<void> {
    const run = new ChunksRun(this.#open(), call, onOutcome)
    return { outcome: run.outcome, cancel: (reason) => run.cancel(reason) }
  }

  close(): void {
    this.#session?.close()
    this.unary.close()
  }

  #open(): Session {
    if (!this.#session?.usable) this.#session = new Session(this.unary.callStream())
    return this.#session
  }
}

class SessionTicket implements Ticket {
  constructor(
    private readonly session: Session,
    private readonly id: number,
  ) {}

  cancel(reason: Failure): void {
    this.session.cancel(this.id, reason)
  }
}

/** The server ends a call at its deadline; so does this side, in case that word does not come. */
class Deadlined implements Sink, Ticket {
  readonly #id: number
  readonly #stop: () => void

  constructor(
    private readonly session: Session,
    call: FunctionCall,
    deadline: number,
    private readonly sink: Sink,
  ) {
    this.#stop = atDeadline(deadline, (reason) => this.cancel(reason))
    this.#id = session.begin(headOf(call, NO_ARGS), call.args, undefined, this)
  }

  settle(payload: Uint8Array | undefined, failures: readonly ChunkFailure[]): void {
    this.#stop()
    this.sink.settle(payload, failures)
  }

  fail(reason: Failure): void {
    this.#stop()
    this.sink.fail(reason)
  }

  cancel(reason: Failure): void {
    this.session.cancel(this.#id, reason)
  }
}

/** Calls back at a deadline, with the failure for it, unless it is stopped before. */
function atDeadline(deadline: number, late: (reason: Failure) => void): () => void {
  const left = Math.min(MAX_TIMER_MS, Math.max(0, deadline - Date.now()))
  const reason = () => new Failure('TASK_TIMEOUT', "the call's timeout passed before its result came")
  const timer = setTimeout(() => late(reason()), left)
  return () => clearTimeout(timer)
}

/** Said of a request before any of it was accepted: nothing of it has run or will. */
const REFUSALS: ReadonlySet<Reason> = new Set<Reason>([
  'BAD_REQUEST',
  'FUNCTION_NOT_FOUND',
  'POOL_NOT_FOUND',
  'POOL_CLOSED',
  'SERVER_DRAINING',
  'INITIALIZER_FAILED',
  'MODULE_LOAD_FAILED',
])

/** The chunks of one request: a call each; the first that is refused, or that the stream loses, fails the request. */
class ChunksRun {
  readonly outcome: Promise<void>
  readonly #ids: number[]
  #left: number
  readonly #stop: () => void
  #resolve: () => void = () => {}
  #reject: (reason: Failure) => void = () => {}

  constructor(
    private readonly session: Session,
    call: ChunksCall,
    private readonly onOutcome: (outcome: ChunkOutcome) => void,
  ) {
    this.outcome = new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
    this.#left = call.chunks.length
    this.#stop = call.deadline === undefined ? () => {} : atDeadline(call.deadline, (reason) => this.cancel(reason))
    const head = {
      ...headOf(call, call.args),
      spread: call.spread,
      onError: call.failFast ? OnError.ON_ERROR_FAIL_FAST : OnError.ON_ERROR_UNSPECIFIED,
    }
    this.#ids = call.chunks.map((payload, chunk) =>
      session.begin(head, NO_ARGS, payload, {
        settle: (result, failures) => this.#settled(chunk, result, failures),
        fail: (reason) => this.#failed(reason),
      }),
    )
  }

  cancel(reason: Failure): void {
    for (const id of this.#ids) this.session.cancel(id, reason)
  }

  #settled(chunk: number, payload: Uint8Array | undefined, failures: readonly ChunkFailure[]): void {
    const refusal = failures.find(({ item, failure }) => item === undefined && REFUSALS.has(failure.reason))
    if (refusal) {
      this.cancel(refusal.failure)
      return this.#failed(refusal.failure)
    }
    this.onOutcome({ chunk, payload, failures })
    if (--this.#left > 0) return
    this.#stop()
    this.#resolve()
  }

  #failed(reason: Failure): void {
    this.#stop()
    this.#reject(reason)
  }
}

const NO_ARGS: readonly Uint8Array[] = []

const headOf = (call: FunctionCall, args: readonly Uint8Array[]): GroupHead => ({
  pool: call.pool,
  function: call.function,
  args: args as Uint8Array[],
  kwargs: call.kwargs,
  replyKind: call.replyKind,
  retries: call.retries,
  spread: false,
  onError: OnError.ON_ERROR_UNSPECIFIED,
  timeoutMs: call.deadline === undefined ? 0 : Math.max(1, Math.ceil(call.deadline - Date.now())),
})

/** The way to the server at this address, as the options choose it. */
export function connect(address: string, { transport }: ClientOptions): Transport {
  const unary = new GrpcTransport(address)
  return transport === 'unary' ? unary : new StreamTransport(unary)
}
