import { readFileSync } from 'node:fs'
import { isIP, type Socket } from 'node:net'
import { type ConnectionOptions, connect, createSecureContext, type PeerCertificate, type TLSSocket } from 'node:tls'
import { hostOf } from '../../wire/address.js'
import { Failure } from '../../wire/failure.js'
import { certificatesIn, checkPair, type Pem, validityFault } from '../../wire/pem.js'
import { type TlsError, tlsErrorName } from '../../wire/tls-error.js'
import { reasonOf } from '../../wire/values/value-errors.js'
import type { PemSource, TlsOptions } from '../options.js'

/** How a client makes its connections to one address encrypted. */
export interface ClientTls {
  /** Equal for equal options: their channels share a connection. */
  readonly id: string
  /** Why a server closes a connection that has just been encrypted, as far as a client can tell. */
  readonly whyClosed: string
  /**
   * Completes the TLS handshake on a connected socket. Reads the files of the options, so that each connection uses what is
   * there now. Rejects with an Error that says in plain words what is wrong, and what to do.
   */
  encrypt(socket: Socket): Promise<TLSSocket>
}

/**
 * @param address has been checked (wire/address.ts).
 * @param trusts which servers the client trusts: those that the options say, or any. Any will do only for a request that is no
 *   secret, to this machine itself.
 * @throws Failure BAD_REQUEST for files that cannot be read, text that is not PEM, a key that is not that of the certificate.
 */
export function clientTls(address: string, options: TlsOptions, trusts: 'known' | 'any' = 'known'): ClientTls {
  const { ca, cert, key, serverName } = options
  if ((cert === undefined) !== (key === undefined)) {
    throw new Failure('BAD_REQUEST', 'of tls.cert and tls.key only one is given; a certificate needs its private key')
  }
  const read = () => {
    const pems = { ca: pemOf('tls.ca', ca), cert: pemOf('tls.cert', cert), key: pemOf('tls.key', key) }
    if (pems.ca) certificatesIn(pems.ca)
    const own = pems.cert && pems.key && checkPair(pems.cert, pems.key)
    return { own, context: { ca: pems.ca?.text, cert: pems.cert?.text, key: pems.key?.text } }
  }
  const makeContext = () => {
    const { own, context } = read()
    const expired = own && validityFault(own)
    if (expired) throw new Failure('BAD_REQUEST', `the client certificate ${expired}`)
    // Without `ca` stand the CAs of Node.
    return createSecureContext({ ...context, minVersion: 'TLSv1.2' })
  }
  read()
  const host = serverName ?? hostOf(address)
  return {
    id: JSON.stringify([trusts, host, ...[ca, cert, key].map((source) => source && String(source))]),
    whyClosed:
      cert === undefined
        ? `the server closed the connection after the TLS handshake; it may want a client certificate: ${GIVE_CERTIFICATE}`
        : 'the server closed the connection after the TLS handshake; it may not accept the client certificate',
    encrypt: async (socket) => {
      const name = host ?? socket.remoteAddress ?? ''
      return handshake({
        socket,
        host: name,
        // RFC 6066 allows no addresses here.
        ...(isIP(name) === 0 && { servername: name }),
        ALPNProtocols: ['h2'],
        secureContext: makeContext(),
        rejectUnauthorized: trusts === 'known',
      })
    },
  }
}

function handshake(options: ConnectionOptions): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const socket = connect(options, () => resolve(socket))
    // It also explains errors that come later: a server of TLS 1.3 looks at the client's certificate after the handshake.
    socket.on('error', (error: HandshakeError) => {
      error.message = faultOf(error) ?? error.message
      reject(new Error(error.code === 'ECONNRESET' ? CLOSED : error.message))
    })
    socket.once('close', () => reject(new Error(CLOSED)))
  })
}

interface HandshakeError extends TlsError {
  /** Of a certificate for other names. */
  readonly cert?: PeerCertificate
  readonly host?: string
}

const CLOSED = 'the server closed the connection during the TLS handshake'
const GIVE_CERTIFICATE = 'set tls.cert and tls.key (--tls-cert, --tls-key)'
const UNKNOWN_CA =
  "the server's certificate comes from a CA that this client does not trust; set tls.ca (--tls-ca) to the certificate of that CA"
const NO_TLS =
  'the server does not speak TLS; leave tls out (--tls), or give the server a certificate (serve --tls-cert)'
const REFUSED = 'the server does not accept the client certificate'

const NO_TLS_1_2 = 'the server does not speak TLS 1.2 or newer'

/** By the names of tlsErrorName(). */
const FAULTS: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED: "the server's certificate has expired; renew it, or correct the clock of this machine",
  CERT_NOT_YET_VALID: "the server's certificate is not valid yet; correct the clock of this machine, or of its issuer",
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: UNKNOWN_CA,
  UNABLE_TO_GET_ISSUER_CERT: UNKNOWN_CA,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: UNKNOWN_CA,
  SELF_SIGNED_CERT_IN_CHAIN: UNKNOWN_CA,
  DEPTH_ZERO_SELF_SIGNED_CERT: UNKNOWN_CA,
  CERT_SIGNATURE_FAILURE: UNKNOWN_CA,
  ERR_SSL_WRONG_VERSION_NUMBER: NO_TLS,
  ERR_SSL_PACKET_LENGTH_TOO_LONG: NO_TLS,
  ERR_SSL_UNSUPPORTED_PROTOCOL: NO_TLS_1_2,
  ALERT_PROTOCOL_VERSION: NO_TLS_1_2,
  ALERT_NO_APPLICATION_PROTOCOL: 'the server does not speak HTTP/2 (ALPN h2)',
  ALERT_CERTIFICATE_REQUIRED: `the server wants a client certificate: ${GIVE_CERTIFICATE}`,
  ALERT_HANDSHAKE_FAILURE: `the server refused the TLS handshake; it may want a client certificate: ${GIVE_CERTIFICATE}`,
  ALERT_UNKNOWN_CA: `${REFUSED}: it is not from a CA that the server trusts`,
  ALERT_CERTIFICATE_EXPIRED: `${REFUSED}: it has expired`,
  ALERT_CERTIFICATE_REVOKED: `${REFUSED}: it was revoked`,
  ALERT_BAD_CERTIFICATE: REFUSED,
  ALERT_UNSUPPORTED_CERTIFICATE: REFUSED,
  ALERT_CERTIFICATE_UNKNOWN: REFUSED,
  ALERT_ACCESS_DENIED: REFUSED,
}

/** Undefined for an error that is not of TLS. */
function faultOf(error: HandshakeError): string | undefined {
  const { code, reason, cert, host } = error
  if (code !== 'ERR_TLS_CERT_ALTNAME_INVALID') return FAULTS[tlsErrorName(error)] ?? (reason && `TLS failed: ${reason}`)
  const names = cert?.subjectaltname ?? 'no name'
  return (
    `the server's certificate is not for ${host} but for ${names}; ` +
    'connect by a name that it has, or set tls.serverName (--tls-server-name) to one'
  )
}

/** PEM text, or the path or file: URL of a file with it. */
function pemOf(name: string, source: PemSource | undefined): Pem | undefined {
  if (source === undefined) return undefined
  if (typeof source === 'string' && source.includes('-----BEGIN')) return { name, text: source }
  if (source instanceof Uint8Array) return { name, text: Buffer.from(source).toString() }
  // Not shown: it may be a part of a key.
  if (/[\r\n]/.test(String(source))) throw new Failure('BAD_REQUEST', `${name} is text, but not PEM`)
  try {
    return { name: `${name} (${source})`, text: readFileSync(source, 'utf8') }
  } catch (error) {
    throw new Failure('BAD_REQUEST', `${name} (${source}) cannot be read: ${reasonOf(error)}`)
  }
}
