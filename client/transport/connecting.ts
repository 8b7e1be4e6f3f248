import type { ClientHttp2Session } from 'node:http2'
import type { Socket } from 'node:net'
import type { ChannelCredentials, ChannelInterface, ClientUnaryCall, connectivityState } from '@grpc/grpc-js'
import { Failure } from '../../wire/failure.js'
import { pingPeer } from '../../wire/pings.js'
import { PING_TIMEOUT_MS } from '../../wire/protocol.js'
import { Code } from '../../wire/reason.js'
import { SilentConnections } from '../../wire/silent-connections.js'
import { grpcJs } from './grpc-js.js'
import { KeepAlive } from './keep-alive.js'
import type { ClientTls } from './tls.js'
import type { TransportEvent } from './transport.js'

/** An RPC fails if it has no connection after this long. A server that is there is connected within a few round trips. */
const CONNECT_MS = 20_000

/** The pauses between attempts to connect grow from the first to the second value. A server that starts is found soon. */
export const FIRST_RECONNECT_MS = 100
export const LONGEST_RECONNECT_MS = 500

/**
 * While there is no connection, the server's name is looked up at most this often: its address may have changed. grpc-js
 * would wait 30 s.
 */
export const LOOKUP_MS = 1_000

/**
 * An RPC that begins after an attempt has failed waits this long for the next ones, which have not failed yet: the server
 * may have started meanwhile.
 */
const NEXT_ATTEMPT_MS = 1_000

/** A timer that is late by more than this says nothing about the peer: this program computed, or was stopped. */
const LATE_MS = 1_000

/** An RPC of any kind: all four have the methods of a unary one. */
export type Rpc = ClientUnaryCall

/** All connections of this program: pools share them. */
const connections = new SilentConnections()

/** The RPCs of this program that are under way. While there are none, servers are not pinged. */
let rpcs = 0

type Pinged = Pick<ClientHttp2Session, 'closed' | 'destroyed' | 'ping' | 'goaway'>

/**
 * Ends a connection whose server does not answer for PING_TIMEOUT_MS. grpc-js could ping, too. But behind a GOAWAY, where
 * Node sends no ping, it would end the connection, and with it the calls that a draining server completes.
 */
function endIfSilent(socket: Socket): void {
  const stop = pingPeer(
    (answered) => {
      const session = sessionOf(socket)
      if (rpcs > 0 && session && !session.closed && !session.destroyed) session.ping(answered)
      else answered()
    },
    (ms) => {
      if (ms >= PING_TIMEOUT_MS) socket.destroy(new Error(`the server did not answer for ${ms / 1_000} s`))
    },
  )
  socket.once('close', stop)
}

/**
 * The HTTP/2 session of a socket. grpc-js keeps it to itself, but Node notes it in a property of the socket, whose name differs
 * between versions. Undefined before there is a session, or if a Node notes it elsewhere: then it is not pinged.
 */
function sessionOf(socket: object): Pinged | undefined {
  for (const key of Reflect.ownKeys(socket)) {
    const value: Partial<Pinged> | null | undefined = Reflect.get(socket, key)
    if (typeof value?.ping === 'function' && typeof value.goaway === 'function') return value as Pinged
  }
  return undefined
}

/** A shorter answer than the smallest frame of HTTP/2 is none in HTTP/2. */
const FRAME_BYTES = 9

/**
 * Says why a connection ended before the server had answered: grpc-js reports the last error of its socket, and there is
 * often none, or one that says only that it was closed. Call it before grpc-js has the socket.
 */
function explainEnd(socket: Socket, why: string): void {
  const before = socket.bytesRead
  const hasAnswer = () => socket.bytesRead - before >= FRAME_BYTES
  let error: NodeJS.ErrnoException | undefined
  socket.on('error', (last: NodeJS.ErrnoException) => {
    error = last
    if (!hasAnswer() && (last.code === 'ECONNRESET' || last.code === 'EPIPE')) last.message = why
  })
  socket.once('close', () => {
    if (!error && !hasAnswer()) socket.emit('error', new Error(why))
  })
}

const MAY_WANT_TLS =
  'the server closed the connection at once; it may want TLS (set tls, --tls), or take no more connections'

/** What makes credentials equal. grpc-js lets channels of one address share a connection if their credentials are equal. */
const ids = new WeakMap<ChannelCredentials, string>()

/** Credentials for connections that are watched, with TLS or without: grpc-js passes each new socket to its credentials. */
export function watchedCredentials(tls?: ClientTls): ChannelCredentials {
  const { CallCredentials, ChannelCredentials } = grpcJs()
  const connect = async (socket: Socket) => {
    connections.watch(socket)
    const carrier = tls ? await tls.encrypt(socket) : socket
    explainEnd(carrier, tls?.whyClosed ?? MAY_WANT_TLS)
    endIfSilent(carrier)
    return { socket: carrier, secure: tls !== undefined }
  }
  class Watched extends ChannelCredentials {
    override _isSecure() {
      return tls !== undefined
    }
    override _equals(other: ChannelCredentials) {
      return ids.get(other) === ids.get(this)
    }
    override _createSecureConnector(...[, , callCredentials = CallCredentials.createEmpty()]: ConnectorArgs) {
      return { connect, waitForReady: async () => {}, getCallCredentials: () => callCredentials, destroy: () => {} }
    }
  }
  const credentials = new Watched()
  ids.set(credentials, tls?.id ?? '')
  return credentials
}

type ConnectorArgs = Parameters<ChannelCredentials['_createSecureConnector']>

/** What a failure of a connection has to add: for how long this client has not answered; empty if it has. */
export function silenceOfClient(): string {
  const { stalledMs } = connections
  if (stalledMs === 0) return ''
  return `; the client did not answer for ${Math.round(stalledMs / 1_000)} s, because its program computed or was stopped`
}

/**
 * The connection of a channel: how long RPCs wait for it, when it comes and goes, and whether it keeps the program alive.
 * grpc-js has no limit for the wait: an RPC waits until the kernel gives up the connect, after about two minutes, and
 * without end if the peer accepts but never answers in HTTP/2.
 */
export class Connecting {
  /** RPCs that may still be without a connection. The function stops the timer that ends the wait. */
  readonly #waiting = new Map<Rpc, () => void>()
  readonly #givenUp = new WeakSet<Rpc>()
  readonly #alive = new KeepAlive()
  /** RPCs that keep the program alive. */
  readonly #holders = new Set<Rpc>()
  /** Why the last attempt to connect failed. */
  #lastError = ''
  /** The state of which the last event told. */
  #wasReady = false

  /** @param onState is called when the connection comes and when it goes; not after close(). */
  constructor(
    private readonly channel: ChannelInterface,
    private readonly onState: (state: TransportEvent) => void,
  ) {
    this.#watch()
  }

  /** An RPC that begins now should wait for the next attempt to connect, and not fail because the last one did. */
  get hasFailed(): boolean {
    return this.#state === grpcJs().connectivityState.TRANSIENT_FAILURE
  }

  /**
   * Watches an RPC that has just been started, and returns it. It keeps the program alive until it ends, and fails with
   * UNAVAILABLE if it has no connection in time.
   */
  bound<R extends Rpc>(rpc: R): R {
    rpcs++
    this.#holders.add(rpc)
    this.#alive.hold()
    const { READY, SHUTDOWN } = grpcJs().connectivityState
    const state = this.#state
    if (state !== READY && state !== SHUTDOWN) this.#limitWait(rpc)
    rpc.on('status', ({ code, details }) => {
      rpcs--
      if (this.#stopWaiting(rpc) && code === Code.UNAVAILABLE && !this.hasGivenUp(rpc)) this.#lastError = details
      this.#letGo(rpc)
    })
    return rpc
  }

  /** Whether this RPC failed because it had no connection in time. */
  hasGivenUp(rpc: Rpc): boolean {
    return this.#givenUp.has(rpc)
  }

  /** From now on this RPC does not keep the program alive. */
  unref(rpc: Rpc): void {
    // grpc-js has a connection keep the program alive from its first RPC on until it has none. #holders does so instead.
    connections.unref()
    this.#letGo(rpc)
  }

  /** Keeps the program alive until the promise has settled. */
  holdUntil(ended: Promise<unknown>): void {
    this.#alive.holdUntil(ended)
  }

  /** Called when the channel is closed. */
  close(): void {
    this.#alive.end()
  }

  #letGo(rpc: Rpc): void {
    if (this.#holders.delete(rpc)) this.#alive.release()
  }

  #limitWait(rpc: Rpc): void {
    const ms = this.hasFailed ? NEXT_ATTEMPT_MS : CONNECT_MS
    const due = performance.now() + ms
    let timer = setTimeout(() => {
      // If it is late, a connection that was made meanwhile has not been noticed yet.
      if (performance.now() - due > LATE_MS) timer = setTimeout(() => this.#giveUp(rpc, ms), ms)
      else this.#giveUp(rpc, ms)
    }, ms)
    this.#waiting.set(rpc, () => clearTimeout(timer))
  }

  /** Returns false if it has a connection already. */
  #stopWaiting(rpc: Rpc): boolean {
    this.#waiting.get(rpc)?.()
    return this.#waiting.delete(rpc)
  }

  #giveUp(rpc: Rpc, ms: number): void {
    this.#givenUp.add(rpc)
    const why = this.#lastError && `: ${this.#lastError}`
    rpc.call?.cancelWithStatus(Code.UNAVAILABLE, `no connection was made within ${ms / 1_000} s${why}`)
  }

  get #state(): connectivityState {
    return this.channel.getConnectivityState(false)
  }

  #watch(): void {
    const state = this.#state
    const { READY, SHUTDOWN } = grpcJs().connectivityState
    if (state === SHUTDOWN) return
    const isReady = state === READY
    // Once the channel is connected, all RPCs have a connection.
    if (isReady) for (const rpc of this.#waiting.keys()) this.#stopWaiting(rpc)
    if (isReady !== this.#wasReady) {
      this.#wasReady = isReady
      if (isReady) this.#lastError = ''
      const change: TransportEvent = isReady ? { kind: 'connected' } : { kind: 'disconnected', reason: this.#lost() }
      // Not inside of grpc-js: the listener may close the channel.
      queueMicrotask(() => this.onState(change))
    }
    this.channel.watchConnectivityState(state, Number.POSITIVE_INFINITY, () => this.#watch())
  }

  #lost(): Failure {
    return new Failure('CONNECTION_LOST', `the connection to ${this.channel.getTarget()} has ended${silenceOfClient()}`)
  }
}
