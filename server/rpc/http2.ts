import { EventEmitter } from 'node:events'
import type { Http2Server, ServerOptions } from 'node:http2'
import type { Server } from '@grpc/grpc-js'

/** What we touch of grpc-js's Server beside its public side: the one place, looked at before it is used. */
interface Inside {
  commonServerOptions: ServerOptions
  createHttp2Server(credentials: unknown): unknown
}

/**
 * Gives the HTTP/2 servers of a gRPC server options that grpc-js has none for, and each of them to `made`, once it is
 * there. To be called before the server is bound; what is bound by then stays as it is.
 *
 * @returns false, with nothing changed, where this grpc-js is built otherwise.
 */
export function adjustHttp2(server: Server, options: ServerOptions, made: (http2: Http2Server) => void): boolean {
  const inside: Partial<Inside> = server as unknown as Inside
  const { commonServerOptions: common, createHttp2Server: create } = inside
  if (typeof common !== 'object' || common === null || typeof create !== 'function') return false
  Object.assign(common, options, { settings: { ...common.settings, ...options.settings } })
  inside.createHttp2Server = (credentials) => {
    const http2 = create.call(server, credentials)
    if (http2 instanceof EventEmitter) made(http2 as Http2Server)
    return http2
  }
  return true
}
