import { EventEmitter } from 'node:events'
import { chmodSync } from 'node:fs'
import {
  constants,
  type Http2Server,
  type Http2Session,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
  type ServerOptions,
} from 'node:http2'
import type { Server as NetServer, Socket } from 'node:net'
import { type TLSSocket, Server as TlsServer } from 'node:tls'
import { isMainThread } from 'node:worker_threads'
import type { Server } from '@grpc/grpc-js'
import { Failure, failureToTrailer } from '../../wire/failure.js'
import { pingPeer } from '../../wire/pings.js'
import { SilentConnections } from '../../wire/silent-connections.js'
import { isHealthCheck } from '../auth/authentication.js'
import { type Connection, ConnectionLimits, type Crowded, RESERVE } from '../limits/connection-limits.js'
import { NARROW_WINDOW_BYTES } from '../limits/memory-budget.js'
import { keepDeadline, sanitize } from './call-headers.js'
import { boundHandshakes, peerOf, reportHandshakes } from './tls-handshakes.js'

/**
 * The HTTP/2 server below grpc-js: limits and windows for which grpc-js has no options. This file touches two private
 * members of grpc-js's Server. It checks them first, and changes nothing if they are not as expected.
 */
interface GrpcServerInternals {
  commonServerOptions: ServerOptions
  createHttp2Server(credentials: unknown): unknown
}

/** A connection that has not sent its first SETTINGS after this time is closed: they take one round trip. */
const HANDSHAKE_MS = 5_000

/**
 * A connection that resets more streams than this is closed. These are Node's defaults, except that the burst is at
 * least twice the stream limit: a client that gives up all its calls at once does no harm.
 */
const RESET_BURST = 1_000
const RESETS_PER_SECOND = 33

/**
 * A peer that has not even acknowledged our SETTINGS, as each HTTP/2 client does when it connects, must answer a ping within
 * this time. It is no client whose program is busy.
 */
const STRANGER_MS = 10_000

/**
 * The size of headers that is announced, at least `maxMetadataBytes`. Node resets a stream whose headers are longer than that,
 * and gives no reason: a client takes the connection for broken and sends the call again. Below it, the call is refused here.
 */
const MAX_HEADERS_BYTES = 65_535

/** How long written data may take to leave after its session has ended. */
const LINGER_MS = 5_000

/** The log mentions that there are too many connections at most this often, for each way to treat them. */
const WARN_MS = 10_000

export interface Http2Options {
  readonly maxConnections: number
  /** Of those, connections from one IP address. */
  readonly maxConnectionsPerAddress: number | undefined
  /** The permissions of the file of a Unix socket, in octal digits. */
  readonly socketMode: string
  /** Open calls of one connection. */
  readonly maxStreams: number
  /** All headers of a call together, plus 32 bytes for each as HTTP/2 counts. */
  readonly maxMetadataBytes: number
  /**
   * What a client may send ahead on each stream and each connection. grpc-js's Server has no option for it
   * (grpc/grpc-node#3058), and Node's 64 KiB would bind every upload to 64 KiB for each round trip.
   */
  readonly windowBytes: number
  /** A client that answers no ping for this long has its connection closed, in milliseconds. */
  readonly pingTimeoutMs: number
}

export interface Http2Listener {
  /** A call begins. If it returns a failure, the call ends with it, and nothing else of it is read. */
  admit(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): Failure | undefined
  /** Called now and then while there are too many connections. */
  crowded(what: Crowded): void
  /** Called when a client has not answered a ping for `ms` milliseconds: its connection ends. */
  silent(peer: string, ms: number): void
  /** Called now and then while TLS handshakes fail. */
  handshakeFailed(peer: string, why: string): void
}

export interface Http2Control {
  /** Announces narrow windows (true) or wide ones again (false): unread streams must not hold a wide window each. */
  narrowWindows(isNarrow: boolean): void
}

type StreamListener = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, ...rest: unknown[]) => void

/**
 * Sets limits and windows, and ends connections of silent peers. Call it before the server is bound. Node itself already
 * limits floods of SETTINGS, PING and empty frames, and headers without end.
 * @returns undefined, with nothing changed, if this version of grpc-js is built differently.
 */
export function configureHttp2(
  server: Server,
  options: Http2Options,
  listener: Http2Listener,
): Http2Control | undefined {
  const { maxStreams, maxMetadataBytes, windowBytes, pingTimeoutMs } = options
  const windows = new Windows(windowBytes)
  const connections = new SilentConnections()
  const crowded = atMostEvery<Crowded>(WARN_MS, (what) => listener.crowded(what))
  const limits = new ConnectionLimits(options, crowded)
  const places = new WeakMap<Http2Session, Connection>()
  const http2Options = {
    settings: {
      maxConcurrentStreams: maxStreams,
      maxHeaderListSize: MAX_HEADERS_BYTES,
      initialWindowSize: windowBytes,
    },
    // Both exist since Node 22.9 and 20.19; an older Node ignores them.
    streamResetBurst: Math.max(RESET_BURST, 2 * maxStreams),
    streamResetRate: RESETS_PER_SECOND,
  }
  const isAdjusted = adjust(server, http2Options, (http2) => {
    const net = http2 as Http2Server & NetServer
    const handshakes = net instanceof TlsServer ? options.maxConnections : 0
    if (handshakes > 0) boundHandshakes(net, handshakes)
    // The reserve, and connections that are being closed.
    net.maxConnections = options.maxConnections + 2 * RESERVE + handshakes
    net.on('drop', () => crowded('closesNew'))
    listenWithMode(net, Number.parseInt(options.socketMode, 8))
    const listeners = http2.listeners('stream')
    http2.removeAllListeners('stream')
    const begin: StreamListener = (stream, headers, ...rest) => {
      const bytes = headerListSize(headers)
      if (bytes > maxMetadataBytes) return refuse(stream, longHeaders(bytes, maxMetadataBytes))
      const connection = stream.session && places.get(stream.session)
      if (connection && !isHealthCheck(headers)) {
        stream.once('close', () => limits.end(connection))
        const failure = limits.begin(connection)
        if (failure) return refuse(stream, failure)
      }
      sanitize(headers)
      keepDeadline(stream, headers)
      const refusal = listener.admit(stream, headers)
      if (refusal) return refuse(stream, refusal)
      for (const listener of listeners) listener.call(http2, stream, headers, ...rest)
    }
    http2.on('stream', begin)
    // Node makes a session while it handles the last of these events, so this is the session's socket.
    let socket: Socket | undefined
    net.prependListener('connection', (connected: Socket) => {
      socket = connected
      connections.watch(connected)
    })
    net.prependListener('secureConnection', (secured: TLSSocket) => {
      socket = secured
    })
    reportHandshakes(net, (peer, why) => listener.handshakeFailed(peer, why))
    http2.on('session', (session) => {
      closeWithoutHandshake(session)
      endIfSilent(session, pingTimeoutMs, (ms) => listener.silent(peerOf(socket), ms))
      if (socket) closeSocketAfter(session, socket)
      const connection = limits.open(socket?.remoteAddress, hangUp(session, socket))
      places.set(session, connection)
      session.once('close', () => limits.remove(connection))
      windows.add(session)
    })
  })
  return isAdjusted ? { narrowWindows: (isNarrow) => windows.narrow(isNarrow) } : undefined
}

/** Gives the HTTP/2 servers of a gRPC server further options, and each new one to `created`. */
function adjust(server: Server, options: ServerOptions, created: (http2: Http2Server) => void): boolean {
  const internals: Partial<GrpcServerInternals> = server as unknown as GrpcServerInternals
  const { commonServerOptions: common, createHttp2Server: create } = internals
  if (typeof common !== 'object' || common === null || typeof create !== 'function') return false
  Object.assign(common, options, { settings: { ...common.settings, ...options.settings } })
  internals.createHttp2Server = (credentials) => {
    const http2 = create.call(server, credentials)
    if (http2 instanceof EventEmitter) created(http2 as Http2Server)
    return http2
  }
  return true
}

/**
 * Has the file of a Unix socket made with these permissions: before a chmod it would be more open for a moment. Node makes it
 * inside of `listen`. Only the main thread can change the umask of a process, so in another one there is that moment.
 */
function listenWithMode(net: NetServer, mode: number): void {
  if (process.platform === 'win32') return
  if (!isMainThread) {
    net.once('listening', () => {
      const address = net.address()
      if (typeof address === 'string') chmodSync(address, mode)
    })
    return
  }
  const { listen } = net
  net.listen = (...args: unknown[]) => {
    const before = process.umask(0o777 & ~mode)
    try {
      return Reflect.apply(listen, net, args)
    } finally {
      process.umask(before)
    }
  }
}

/** The receive windows of all sessions. */
class Windows {
  readonly #sessions = new Set<ServerHttp2Session>()
  #isNarrow = false

  constructor(private readonly bytes: number) {}

  add(session: ServerHttp2Session): void {
    if (session.destroyed) return
    session.setLocalWindowSize(this.bytes)
    this.#sessions.add(session)
    session.once('close', () => this.#sessions.delete(session))
    if (this.#isNarrow) this.#announce(session)
  }

  narrow(isNarrow: boolean): void {
    this.#isNarrow = isNarrow
    for (const session of this.#sessions) this.#announce(session)
  }

  /** A peer that never acknowledges is told ten times, then Node closes its connection. */
  #announce(session: ServerHttp2Session): void {
    if (session.destroyed || session.closed) return
    session.settings({ initialWindowSize: this.#isNarrow ? NARROW_WINDOW_BYTES : this.bytes })
  }
}

/** As HTTP/2 counts. Node does not hold a peer to the limit that never acknowledged it: 64 KiB and more come through. */
function headerListSize(headers: IncomingHttpHeaders): number {
  let bytes = 0
  for (const name in headers) {
    const value = headers[name]
    for (const one of typeof value === 'string' ? [value] : (value ?? [])) bytes += name.length + one.length + 32
  }
  return bytes
}

const longHeaders = (bytes: number, limit: number): Failure =>
  new Failure('PAYLOAD_TOO_LARGE', `the headers of the call take ${bytes} bytes; they may take ${limit}`, {
    metadata: { of: 'headers', limit: String(limit) },
  })

/** Ends a call of which grpc-js does not hear. */
function refuse(stream: ServerHttp2Stream, failure: Failure): void {
  const { code, message, details } = failureToTrailer(failure)
  // The peer may be gone by now.
  stream.on('error', () => {})
  stream.respond(
    {
      ':status': 200,
      'content-type': 'application/grpc+proto',
      'grpc-status': code,
      'grpc-message': encodeURI(message),
      'grpc-status-details-bin': Buffer.from(details).toString('base64'),
      ...(failure.retryDelayMs !== undefined && { 'grpc-retry-pushback-ms': failure.retryDelayMs }),
    },
    { endStream: true },
  )
  stream.resume()
  // Behind the answer: the peer need not send the rest of its request.
  stream.close(constants.NGHTTP2_NO_ERROR)
}

/** Keepalive pings only work once the handshake is done, so until then a connection has a timer of its own. */
function closeWithoutHandshake(session: ServerHttp2Session): void {
  const timer = setTimeout(() => session.destroy(), HANDSHAKE_MS)
  timer.unref()
  const stop = () => clearTimeout(timer)
  session.once('remoteSettings', stop)
  session.once('close', stop)
}

/**
 * Ends a session whose peer does not answer.
 * @param silent is called when the session of a client ends.
 */
function endIfSilent(session: ServerHttp2Session, timeoutMs: number, silent: (ms: number) => void): void {
  let isClient = false
  session.once('localSettings', () => {
    isClient = true
  })
  const stop = pingPeer(
    (answered) => {
      // Behind a GOAWAY, Node sends no ping and says so at once.
      if (!session.destroyed) session.ping(answered)
    },
    (ms) => {
      if (ms < (isClient ? timeoutMs : STRANGER_MS)) return
      if (isClient && !session.destroyed) silent(ms)
      session.destroy()
    },
  )
  session.once('close', stop)
}

/** Closes a session: its client gets a GOAWAY, and has nothing to answer. A health check that goes on would keep it open. */
const hangUp = (session: ServerHttp2Session, socket: Socket | undefined) => (): void => {
  socket?.once('finish', () => socket.destroy())
  session.close()
  session.destroy()
}

/**
 * Destroys the socket of a session that has ended. Node waits until everything that was written has been read, so a peer
 * that neither reads nor closes would keep its connection, and everything that waits for it, for ever.
 */
function closeSocketAfter(session: ServerHttp2Session, socket: Socket): void {
  const destroySession = session.destroy.bind(session)
  session.destroy = (...args: Parameters<typeof destroySession>) => {
    if (!session.destroyed) {
      const timer = setTimeout(() => socket.destroy(), LINGER_MS).unref()
      socket.once('close', () => clearTimeout(timer))
    }
    destroySession(...args)
  }
}

/** For each argument by itself. */
function atMostEvery<T>(ms: number, action: (what: T) => void): (what: T) => void {
  const last = new Map<T, number>()
  return (what) => {
    const now = performance.now()
    if (now - (last.get(what) ?? Number.NEGATIVE_INFINITY) < ms) return
    last.set(what, now)
    action(what)
  }
}
