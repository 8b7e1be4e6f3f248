import { type ChannelInterface, type ClientUnaryCall, connectivityState } from '@grpc/grpc-js'
import { Code } from '../../wire/reason.js'

/** A call that has found no connection in so long fails: that of a server which is there takes a few round trips. */
const CONNECT_MS = 20_000

/** A call of any kind: what all of them have. */
export type Rpc = ClientUnaryCall

/**
 * The calls of a channel that wait for a connection. grpc-js lets them wait for as long as the kernel tries, some two
 * minutes, and for ever where there is one but nobody greets.
 */
export class Connecting {
  readonly #calls = new Set<Rpc>()
  readonly #givenUp = new WeakSet<Rpc>()
  #isWatching = false

  constructor(private readonly channel: ChannelInterface) {}

  /** The same call, which has just been made; it ends with UNAVAILABLE unless there is a connection within CONNECT_MS. */
  bound<R extends Rpc>(rpc: R): R {
    if (this.#state === connectivityState.READY || this.#state === connectivityState.SHUTDOWN) return rpc
    this.#calls.add(rpc)
    const timer = setTimeout(() => this.#giveUp(rpc), CONNECT_MS)
    rpc.on('status', () => {
      clearTimeout(timer)
      this.#calls.delete(rpc)
    })
    this.#watch()
    return rpc
  }

  /** Whether a call ended for want of a connection. */
  hasGivenUp(rpc: Rpc): boolean {
    return this.#givenUp.has(rpc)
  }

  #giveUp(rpc: Rpc): void {
    if (!this.#calls.has(rpc)) return
    this.#givenUp.add(rpc)
    rpc.call?.cancelWithStatus(Code.UNAVAILABLE, `no connection came about in ${CONNECT_MS / 1_000} s`)
  }

  get #state(): connectivityState {
    return this.channel.getConnectivityState(false)
  }

  #watch(): void {
    if (this.#isWatching || this.#calls.size === 0 || this.#state === connectivityState.SHUTDOWN) return
    this.#isWatching = true
    this.channel.watchConnectivityState(this.#state, Number.POSITIVE_INFINITY, () => {
      this.#isWatching = false
      if (this.#state === connectivityState.READY) this.#calls.clear()
      this.#watch()
    })
  }
}
