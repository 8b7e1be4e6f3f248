import type { Server, Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { type TlsError, tlsErrorName } from '../../wire/tls-error.js'

/** For each reason, failed handshakes are reported at most this often. */
const REPORT_MS = 10_000

/**
 * The socket below that of TLS. It is a private member of Node's; without it, the peer is "unknown" in some reports, and
 * the number of open handshakes has no bound.
 */
interface Below {
  readonly _parent?: Socket | null
}

/** How logs name the peer of a connection. */
export const peerOf = (socket: Socket | undefined): string =>
  socket?.remoteAddress === undefined ? 'unix' : `${socket.remoteAddress}:${socket.remotePort}`

/**
 * Reports TLS handshakes that fail. Node has closed their connections by then, and no other is harmed.
 * @param failed is called with the peer, and the end of a sentence about it.
 */
export function reportHandshakes(server: Server, failed: (peer: string, why: string) => void): void {
  // A socket that has been destroyed does not know its peer.
  const peers = new WeakMap<Socket, string>()
  const reported = new Map<string, number>()
  server.prependListener('connection', (socket: Socket) => peers.set(socket, peerOf(socket)))
  server.on('tlsClientError', (error: TlsError, socket: TLSSocket & Below) => {
    const below = socket._parent ?? undefined
    // Load balancers connect and close, to see whether the port is open.
    if (below?.bytesRead === 0) return
    const why = faultOf(error, socket.authorizationError)
    const now = performance.now()
    if (now - (reported.get(why) ?? Number.NEGATIVE_INFINITY) < REPORT_MS) return
    reported.set(why, now)
    failed((below && peers.get(below)) ?? 'unknown', why)
  })
}

/**
 * Ends the oldest handshake where more than this many are open, so that peers that do not complete theirs keep nobody out.
 */
export function boundHandshakes(server: Server, most: number): void {
  // The oldest first.
  const open = new Set<Socket>()
  server.prependListener('connection', (socket: Socket) => {
    open.add(socket)
    socket.once('close', () => open.delete(socket))
    const [oldest] = open
    if (open.size > most) oldest?.destroy()
  })
  server.prependListener('secureConnection', ({ _parent: below }: TLSSocket & Below) => {
    if (below) open.delete(below)
    else open.clear()
  })
}

const NO_TLS = 'it does not speak TLS'
const DISTRUST = 'it does not trust the certificate of this server'

/** By the names of tlsErrorName(). */
const FAULTS: Readonly<Record<string, string>> = {
  ERR_SSL_WRONG_VERSION_NUMBER: NO_TLS,
  ERR_SSL_HTTP_REQUEST: NO_TLS,
  ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE: 'it has no client certificate',
  ERR_SSL_UNSUPPORTED_PROTOCOL: 'it does not speak TLS 1.2 or newer',
  ERR_SSL_NO_APPLICATION_PROTOCOL: 'it does not speak HTTP/2 (ALPN h2)',
  ERR_TLS_HANDSHAKE_TIMEOUT: 'it took too long',
  ALERT_UNKNOWN_CA: DISTRUST,
  ALERT_BAD_CERTIFICATE: DISTRUST,
  ALERT_CERTIFICATE_UNKNOWN: DISTRUST,
  ALERT_CERTIFICATE_EXPIRED: DISTRUST,
  // A client of Node says nothing more.
  ECONNRESET: 'it closed the connection; it may not trust the certificate of this server',
}

/** @param rejected the code of OpenSSL for a client certificate that is refused. */
function faultOf(error: TlsError, rejected: Error | string | null | undefined): string {
  if (!rejected) return FAULTS[tlsErrorName(error)] ?? error.reason ?? error.message
  if (rejected === 'CERT_HAS_EXPIRED') return 'its client certificate has expired'
  const isOfOtherCa = /^(UNABLE_TO_|SELF_SIGNED|DEPTH_ZERO|CERT_SIGNATURE)/.test(String(rejected))
  return `its client certificate ${isOfOtherCa ? 'is not from a CA in tls-client-ca' : 'cannot be used'} (${rejected})`
}
