import { headOf, NO_ARGS } from '../../wire/framing/call-codec.js'
import { RPC_METHODS } from '../../wire/rpc-methods.js'
import type { ClientOptions } from '../options.js'
import { CallWithDeadline } from './call-port.js'
import { ChunksRun } from './chunk-calls.js'
import { Session } from './client-session.js'
import type { ChunkOutcome, ChunksCall, FunctionCall, Pending, Sink, Ticket, Transport } from './transport.js'
import { type Method, UnaryTransport } from './unary-transport.js'

/** The transport to the server at this address that the options choose. */
export const connect = (address: string, options: ClientOptions): Transport =>
  options.transport === 'unary' ? new UnaryTransport(address, options) : new StreamTransport(address, options)

/** The RPC of a stream of calls. The session encodes and decodes its messages. */
const CALL: Method<Buffer, Buffer> = {
  path: RPC_METHODS.call.path,
  requestSerialize: (request) => request,
  responseDeserialize: (response) => response,
}

/**
 * Many calls in one stream. Calls that start in the same turn of the event loop travel in one message, and the server
 * sends as many outcomes in a message as are ready. A single call is sent in the turn in which it was made. Requests that
 * are no calls (owned pools, information) are RPCs of their own, as in the UnaryTransport.
 */
export class StreamTransport extends UnaryTransport {
  /** Takes new calls. */
  #session: Session | undefined
  /** Sessions that take no new calls but still have some under way, because their servers drain. */
  #earlier: Session[] = []

  override apply(call: FunctionCall, sink: Sink): Ticket {
    const session = this.#usableSession()
    if (call.deadline !== undefined) return new CallWithDeadline(session, call, sink)
    return session.begin(headOf(call, NO_ARGS), call.args, undefined, sink)
  }

  override chunks(call: ChunksCall, onOutcome: (outcome: ChunkOutcome) => void): Pending<void> {
    return new ChunksRun(this, () => this.#usableSession(), call, onOutcome)
  }

  override close(): void {
    for (const session of this.#earlier) session.close()
    this.#session?.close()
    super.close()
  }

  #usableSession(): Session {
    if (this.#session?.isUsable) return this.#session
    if (this.#session) this.#earlier.push(this.#session)
    this.maxMessageBytes = this.#session?.maxBytes ?? this.maxMessageBytes
    this.#earlier = this.#earlier.filter(({ hasEnded }) => !hasEnded)
    this.#session = new Session(() => this.openStream(CALL), this.isConnected ? this.maxMessageBytes : undefined)
    return this.#session
  }
}
