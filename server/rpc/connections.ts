import type { Http2Server, IncomingHttpHeaders, ServerHttp2Session, ServerHttp2Stream, ServerOptions } from 'node:http2'
import type { Server as NetServer } from 'node:net'
import type { Server } from '@grpc/grpc-js'
import { Failure, failureToTrailer } from '../../wire/failure.js'
import { HANDSHAKE_MS, RESET_BURST, RESETS_PER_SECOND } from '../../wire/limits.js'
import { Begins } from './begins.js'
import { keepDeadline, tame } from './headers.js'
import { adjustHttp2 } from './http2.js'
import { Offenders } from './offenders.js'
import { PAUSED, watchSockets } from './sockets.js'
import { StreamLimit } from './stream-limit.js'

/** How often at most the log says that connections are refused. */
const WARN_MS = 10_000

export interface ConnectionLimits {
  /** How many connections may be open; further ones are closed at once. */
  readonly maxConnections: number
  /** How many calls of one connection may be open. */
  readonly maxStreams: number
  /** How long the headers of a call may be altogether. */
  readonly maxMetadataBytes: number
  /** How many connections of one address may break the protocol in a second; above it, all of that address wait. 0 for any number. */
  readonly maxViolations: number
}

/** Told now and then, as long as it lasts. */
export interface Told {
  /** Connections are closed, because there are too many. */
  refused(): void
  /** Connections have to wait. */
  offended(address: string): void
}

/**
 * Bounds what one peer, or many, can take of a server without ever making a call. To be called before the server is
 * bound. What Node bounds by itself: frames that nobody asked for (settings, pings, empty data, invalid ones),
 * headers without an end, settings and headers by their number.
 *
 * @returns false, with nothing changed, where this grpc-js is built otherwise.
 */
export function limitConnections(
  server: Server,
  { maxConnections, maxStreams, maxMetadataBytes, maxViolations }: ConnectionLimits,
  told: Told,
): boolean {
  // Both exist since Node 22.9 and 20.19; an older Node has the numbers that are Node's defaults, and ignores these.
  const resets = { streamResetBurst: Math.max(RESET_BURST, 2 * maxStreams), streamResetRate: RESETS_PER_SECOND }
  const settings = { maxConcurrentStreams: StreamLimit.first(maxStreams), maxHeaderListSize: maxMetadataBytes }
  return adjustHttp2(server, { settings, ...resets, ...PAUSED } as ServerOptions, (http2) => {
    const net = http2 as Http2Server & NetServer
    net.maxConnections = maxConnections
    net.on('drop', atMostEvery(WARN_MS, told.refused))
    watchSockets(http2, net, new Offenders(maxViolations, atMostEvery(WARN_MS, told.offended)))
    http2.on('session', endUnlessGreeted)
    const listeners = http2.listeners('stream')
    http2.removeAllListeners('stream')
    const begin: StreamListener = (stream, headers, ...rest) => {
      const bytes = sizeOf(headers)
      if (bytes > maxMetadataBytes) return refuse(stream, bytes, maxMetadataBytes)
      tame(headers)
      keepDeadline(stream, headers)
      for (const listener of listeners) listener.call(http2, stream, headers, ...rest)
    }
    http2.on('session', (session) => {
      const limit = new StreamLimit(session, maxStreams)
      const begins = new Begins()
      const begun: StreamListener = (stream, ...rest) => {
        limit.begin(stream)
        begins.push(stream, () => begin(stream, ...rest))
      }
      session.on('stream', begun)
    })
  })
}

type StreamListener = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, ...rest: unknown[]) => void

function atMostEvery<Args extends unknown[]>(ms: number, tell: (...args: Args) => void): (...args: Args) => void {
  let last = Number.NEGATIVE_INFINITY
  return (...args) => {
    const now = performance.now()
    if (now - last < ms) return
    last = now
    tell(...args)
  }
}

/**
 * As HTTP/2 counts. Node does not hold to its setting a peer that never acknowledges it: 64 KiB and more come through.
 */
function sizeOf(headers: IncomingHttpHeaders): number {
  let bytes = 0
  for (const name in headers) {
    const value = headers[name]
    for (const one of typeof value === 'string' ? [value] : (value ?? [])) bytes += name.length + one.length + 32
  }
  return bytes
}

function refuse(stream: ServerHttp2Stream, bytes: number, limit: number): void {
  const message = `the headers of the call take ${bytes} bytes; they may take ${limit}`
  const { code, details } = failureToTrailer(new Failure('PAYLOAD_TOO_LARGE', message))
  // A peer that is gone by now needs no answer.
  stream.on('error', () => {})
  stream.respond(
    {
      ':status': 200,
      'content-type': 'application/grpc+proto',
      'grpc-status': code,
      'grpc-message': encodeURI(message),
      'grpc-status-details-bin': Buffer.from(details).toString('base64'),
    },
    { endStream: true },
  )
  stream.resume()
}

/** Ends a connection that does not even greet. Only one that has can be asked whether it is still there (keepalive). */
function endUnlessGreeted(session: ServerHttp2Session): void {
  const timer = setTimeout(() => session.destroy(), HANDSHAKE_MS)
  timer.unref()
  const stop = () => clearTimeout(timer)
  session.once('remoteSettings', stop)
  session.once('close', stop)
}
