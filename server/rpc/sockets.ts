import type { Http2Server, ServerHttp2Session } from 'node:http2'
import { isIPv6, type Server as NetServer, type Socket } from 'node:net'
import type { Offenders } from './offenders.js'

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
