import type { Http2Server, IncomingHttpHeaders, ServerHttp2Session, ServerHttp2Stream, ServerOptions } from 'node:http2'
import { isIPv6, type Server as NetServer, type Socket } from 'node:net'
import type { Server } from '@grpc/grpc-js'
import { Failure, failureToTrailer } from '../../wire/failure.js'
import { keepDeadline, tame } from '../grpc/call-headers.js'
import { adjustHttp2 } from '../grpc/http2-server.js'

/** Of those, how many may have been opened in the last second; and as many more as have been open for longer. */
const NEW_STREAMS = 128

/** Calls of one connection that begin in one turn of the event loop: some milliseconds. */
const BEGUN_IN_A_TURN = 8

/** A connection that has not greeted in so long is closed: a greeting takes one round trip. */
const HANDSHAKE_MS = 5_000

/**
 * A connection that resets more streams than these is closed; they are Node's numbers. The burst is at least twice
 * MAX_STREAMS: whoever gives up all its calls at once is no attacker.
 */
const RESET_BURST = 1_000
const RESETS_PER_SECOND = 33

/**
 * The calls of one connection that come: a few begin in a turn of the event loop, and the rest in those behind it. A read of a
 * socket brings hundreds, for which everybody else would wait; and those that are reset meanwhile cost nothing.
 */
export class Begins {
  #isTurn = false
  #begun = 0
  readonly #waiting: { readonly stream: ServerHttp2Stream; readonly begin: () => void }[] = []

  /** Calls `begin`, now or later, unless the stream has been closed by then. */
  push(stream: ServerHttp2Stream, begin: () => void): void {
    if (!this.#isTurn) setImmediate(this.#goOn)
    this.#isTurn = true
    if (this.#begun < BEGUN_IN_A_TURN) return this.#begin(stream, begin)
    // One that fails meanwhile has nobody else to tell.
    stream.on('error', () => {})
    this.#waiting.push({ stream, begin })
  }

  readonly #goOn = (): void => {
    this.#begun = 0
    let gone = 0
    for (const { stream, begin } of this.#waiting) {
      if (this.#begun === BEGUN_IN_A_TURN) break
      gone++
      this.#begin(stream, begin)
    }
    this.#waiting.splice(0, gone)
    this.#isTurn = this.#begun > 0
    if (this.#isTurn) setImmediate(this.#goOn)
  }

  #begin(stream: ServerHttp2Stream, begin: () => void): void {
    // To answer one that is closed would throw.
    if (stream.destroyed || stream.closed) return
    this.#begun++
    begin()
  }
}

/** How much an address may owe before its connections wait. */
const FREE_MS = 1_000
/** Whoever has broken the protocol without end is as all others after so long. */
const LONGEST_MS = 60_000
/** Connections that would have to wait longer are closed. While they wait nothing is read, so that nobody notices that one has gone. */
const WAIT_MS = 5_000
/** Addresses that are remembered. */
const ADDRESSES = 1_000

/**
 * Connections of addresses whose connections break the protocol again and again. To greet one, and to end it with all that it has
 * opened, costs the server milliseconds, and its heap more. Each that breaks it is owed for; an address that owes much has its new
 * connections wait in line, and the server reads no word of them before their turn. Those that it has already, and other
 * addresses, notice nothing.
 */
export class Offenders {
  readonly #costMs: number
  /** The one that has offended last is the last. */
  readonly #lines = new Map<string, Line>()

  /**
   * @param perSecond how many connections of one address may break the protocol in a second; 0 for any number.
   * @param told while connections have to wait.
   */
  constructor(
    private readonly perSecond: number,
    private readonly told: (address: string) => void,
  ) {
    this.#costMs = 1_000 / perSecond
  }

  /** A connection of this address had to be ended. */
  offended(address: string): void {
    if (this.perSecond === 0) return
    const known = this.#lines.get(address)
    if (known) this.#lines.delete(address)
    else this.#forget()
    const line = known ?? new Line(this.#costMs)
    line.owe(this.#costMs)
    this.#lines.set(address, line)
  }

  /** Calls `accept`, now or when it is the connection's turn, where it is still there by then. */
  enter(socket: Socket, address: string, accept: () => void): void {
    const line = this.#lines.get(address)
    if (!line || line.isFree) return accept()
    this.told(address)
    if (line.isFull) socket.destroy()
    else line.push(socket, accept)
  }

  /** Nobody is let in any more. */
  close(): void {
    for (const line of this.#lines.values()) line.close()
  }

  #forget(): void {
    for (const [address, line] of this.#lines) {
      if (line.isOver || (this.#lines.size >= ADDRESSES && line.isEmpty)) this.#lines.delete(address)
    }
  }
}

/** What an address owes, in milliseconds, which go by, and its connections that wait. */
class Line {
  readonly #waiting = new Map<Socket, () => void>()
  /** When nothing is owed any more. */
  #until = performance.now()
  #timer: NodeJS.Timeout | undefined

  constructor(private readonly costMs: number) {}

  get isEmpty(): boolean {
    return this.#waiting.size === 0
  }

  get isOver(): boolean {
    return this.isEmpty && this.#owed <= 0
  }

  /** Whether a connection that comes now need not wait. */
  get isFree(): boolean {
    return this.#owed < FREE_MS
  }

  get isFull(): boolean {
    return this.#waiting.size * this.costMs >= WAIT_MS
  }

  owe(ms: number): void {
    const now = performance.now()
    this.#until = Math.min(now + LONGEST_MS, Math.max(now, this.#until) + ms)
  }

  push(socket: Socket, accept: () => void): void {
    const leave = () => void this.#waiting.delete(socket)
    socket.once('close', leave)
    // Of one that breaks meanwhile its end tells.
    socket.on('error', ignored)
    this.#waiting.set(socket, () => {
      socket.off('close', leave)
      socket.off('error', ignored)
      accept()
    })
    this.#wait()
  }

  close(): void {
    clearTimeout(this.#timer)
    for (const socket of [...this.#waiting.keys()]) socket.destroy()
  }

  get #owed(): number {
    return this.#until - performance.now()
  }

  #wait(): void {
    this.#timer ??= setTimeout(() => this.#next(), this.costMs)
  }

  /** One; or all, where nothing is held against them any more. */
  #next(): void {
    this.#timer = undefined
    for (const [socket, accept] of [...this.#waiting]) {
      this.#waiting.delete(socket)
      accept()
      if (!this.isFree) break
    }
    if (!this.isEmpty) this.#wait()
  }
}

const ignored = () => {}

/** Of net.Server. What a socket has read before its session is there, Node 20 does not bear if it breaks the protocol. */
export const PAUSED = { pauseOnConnect: true }

/** How long what has been written may take to leave, when a session has ended. */
const LINGER_MS = 5_000

/**
 * Sockets come to be sessions when they need not wait, and are closed with them. Peers of a Unix socket have no address: they
 * are as one. The sockets must be PAUSED.
 */
export function watchSockets(http2: Http2Server, net: NetServer, offenders: Offenders): void {
  const listeners = net.listeners('connection')
  net.removeAllListeners('connection')
  let accepted: { readonly socket: Socket; readonly address: string } | undefined
  net.on('connection', (socket: Socket) => {
    const address = networkOf(socket.remoteAddress ?? '')
    offenders.enter(socket, address, () => {
      accepted = { socket, address }
      for (const listener of listeners) listener.call(http2, socket)
      accepted = undefined
      socket.resume()
    })
  })
  http2.on('session', (session) => {
    if (!accepted) return
    const { socket, address } = accepted
    session.on('error', ({ code }: NodeJS.ErrnoException) => {
      // A connection that breaks (ECONNRESET), or a peer that finds fault with us, has broken no rule.
      if (code === 'ERR_HTTP2_ERROR') offenders.offended(address)
    })
    closeAfter(session, socket)
  })
  const close = net.close.bind(net)
  net.close = (done) => {
    offenders.close()
    return close(done)
  }
}

/**
 * Node ends a socket when all that was written has been read: never, where its peer neither reads nor goes. Until then its session
 * tells nobody of its end.
 */
function closeAfter(session: ServerHttp2Session, socket: Socket): void {
  const destroy = session.destroy.bind(session)
  session.destroy = (...args: Parameters<typeof destroy>) => {
    if (!session.destroyed) {
      const timer = setTimeout(() => socket.destroy(), LINGER_MS).unref()
      socket.once('close', () => clearTimeout(timer))
    }
    destroy(...args)
  }
}

/** Of IPv6 the first half: whoever has one such address has all others of it. */
export function networkOf(address: string): string {
  if (!isIPv6(address) || address.includes('.')) return address
  const [before = '', after = ''] = address.split('::')
  const [first, last] = [groupsOf(before), groupsOf(after)]
  const zeros = Array<string>(Math.max(0, 8 - first.length - last.length)).fill('0')
  return [...first, ...zeros, ...last].slice(0, 4).join(':')
}

const groupsOf = (part: string): string[] => (part === '' ? [] : part.split(':'))

/** A stream that has been open for so long is no part of a flood. */
const OLD_MS = 1_000

/**
 * How many streams a connection may have open: NEW_STREAMS at first, and more as some of them stay open, up to a limit. A thousand
 * that are opened in one breath, and given up as fast, cost the server tenths of a second; whoever needs as many (plain stubs with long
 * calls, open pools) has them after a few seconds. Never fewer again: calls may be on their way.
 */
export class StreamLimit {
  /** Since when streams are open, the oldest first. */
  readonly #since = new Map<ServerHttp2Stream, number>()
  #limit: number
  #timer: NodeJS.Timeout | undefined

  constructor(
    private readonly session: ServerHttp2Session,
    private readonly most: number,
  ) {
    this.#limit = StreamLimit.first(most)
    session.once('close', () => clearTimeout(this.#timer))
  }

  /** What a connection begins with. */
  static first(most: number): number {
    return Math.min(NEW_STREAMS, most)
  }

  begin(stream: ServerHttp2Stream): void {
    this.#since.set(stream, performance.now())
    stream.once('close', () => this.#since.delete(stream))
    this.#look()
  }

  /** Where half of the limit is open it is looked at again when those are old. */
  #look(): void {
    if (this.#timer || this.#limit === this.most || this.#since.size < this.#limit / 2) return
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      this.#raise()
      this.#look()
    }, OLD_MS).unref()
  }

  #raise(): void {
    const limit = Math.min(this.most, NEW_STREAMS + 2 * this.#old)
    const { session } = this
    if (limit <= this.#limit || session.destroyed || session.closed || session.pendingSettingsAck) return
    this.#limit = limit
    session.settings({ maxConcurrentStreams: limit })
  }

  get #old(): number {
    const before = performance.now() - OLD_MS
    let old = 0
    for (const since of this.#since.values()) {
      if (since > before) break
      old++
    }
    return old
  }
}

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
