import type { ServerHttp2Session } from 'node:http2'
import type { TLSSocket } from 'node:tls'

/** The common name (CN) of the client certificate that TLS has verified; undefined if there is none, or more than one. */
export function commonNameOf(session: ServerHttp2Session): string | undefined {
  if (session.destroyed) return undefined
  const { authorized, getPeerCertificate } = session.socket as Partial<TLSSocket>
  const name: unknown = authorized ? getPeerCertificate?.().subject?.CN : undefined
  return typeof name === 'string' ? name : undefined
}
