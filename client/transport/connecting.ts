import type { ChannelInterface, ClientUnaryCall, connectivityState } from '@grpc/grpc-js'
import { Code } from '../../wire/reason.js'
import { grpcJs } from './grpc-js.js'

/** An RPC fails if it has no connection after this long. A server that is there is connected within a few round trips. */
const CONNECT_MS = 20_000

/** An RPC of any kind: all four have the methods of a unary one. */
export type Rpc = ClientUnaryCall

/**
 * Limits how long the RPCs of a channel wait for a connection. grpc-js has no such limit: an RPC waits until the kernel
 * gives up the connect, after about two minutes, and without end if the peer accepts but never answers in HTTP/2.
 */
export class Connecting {
  /** RPCs that may still be without a connection. */
  readonly #waiting = new Set<Rpc>()
  readonly #givenUp = new WeakSet<Rpc>()
  #isWatching = false

  constructor(private readonly channel: ChannelInterface) {}

  /** Watches an RPC that has just been started, and returns it. It fails with UNAVAILABLE after CONNECT_MS. */
  bound<R extends Rpc>(rpc: R): R {
    if (this.#state === grpcJs().connectivityState.READY || this.#state === grpcJs().connectivityState.SHUTDOWN)
      return rpc
    this.#waiting.add(rpc)
    const timer = setTimeout(() => this.#giveUp(rpc), CONNECT_MS)
    rpc.on('status', () => {
      clearTimeout(timer)
      this.#waiting.delete(rpc)
    })
    this.#watch()
    return rpc
  }

  /** Whether this RPC failed because it had no connection in time. */
  hasGivenUp(rpc: Rpc): boolean {
    return this.#givenUp.has(rpc)
  }

  #giveUp(rpc: Rpc): void {
    if (!this.#waiting.has(rpc)) return
    this.#givenUp.add(rpc)
    rpc.call?.cancelWithStatus(Code.UNAVAILABLE, `no connection was made within ${CONNECT_MS / 1_000} s`)
  }

  get #state(): connectivityState {
    return this.channel.getConnectivityState(false)
  }

  /** Once the channel is connected, all RPCs have a connection. */
  #watch(): void {
    if (this.#isWatching || this.#waiting.size === 0 || this.#state === grpcJs().connectivityState.SHUTDOWN) return
    this.#isWatching = true
    this.channel.watchConnectivityState(this.#state, Number.POSITIVE_INFINITY, () => {
      this.#isWatching = false
      if (this.#state === grpcJs().connectivityState.READY) this.#waiting.clear()
      this.#watch()
    })
  }
}
