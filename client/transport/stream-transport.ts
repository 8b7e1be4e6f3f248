import type { Failure } from '../../wire/failure.js'
import type { ClientOptions } from '../options.js'
import { ChunksRun } from './chunk-calls.js'
import { headOf, Session } from './client-session.js'
import { atDeadline } from './resend.js'
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
import { GrpcTransport } from './unary-transport.js'

/**
 * Many calls in one stream: what is started in one turn of the event loop travels in one message, and outcomes come
 * back as many in a message as have ended. A lone call leaves in the turn in which it was made. All else (owned pools,
 * information) goes its own way.
 */
export class StreamTransport implements Transport {
  #session: Session | undefined
  /** Those before it that still have calls, of servers that drain. */
  #earlier: Session[] = []
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

  get wasConnected(): boolean {
    return this.unary.wasConnected
  }

  apply(call: FunctionCall, sink: Sink): Ticket {
    const session = this.#open()
    if (call.deadline !== undefined) return new Deadlined(session, call, call.deadline, sink)
    return new SessionTicket(session, session.begin(headOf(call, []), call.args, undefined, sink))
  }

  chunks(call: ChunksCall, onOutcome: (outcome: ChunkOutcome) => void): Pending<void> {
    const run = new ChunksRun(
      () => this.#open(),
      call,
      () => this.wasConnected,
      onOutcome,
    )
    return { outcome: run.outcome, cancel: (reason) => run.cancel(reason) }
  }

  close(): void {
    for (const session of this.#earlier) session.close()
    this.#session?.close()
    this.unary.close()
  }

  #open(): Session {
    if (this.#session?.usable) return this.#session
    if (this.#session) this.#earlier.push(this.#session)
    this.#earlier = this.#earlier.filter(({ hasEnded }) => !hasEnded)
    this.#session = new Session(() => this.unary.callStream(), this.unary.isConnected)
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
    this.#id = session.begin(headOf(call, []), call.args, undefined, this)
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

/** The way to the server at this address, as the options choose it. */
export function connect(address: string, { transport }: ClientOptions): Transport {
  const unary = new GrpcTransport(address)
  return transport === 'unary' ? unary : new StreamTransport(unary)
}
