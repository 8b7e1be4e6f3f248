import { EventEmitter } from 'node:events'
import type { Http2Server, ServerHttp2Session, ServerOptions } from 'node:http2'
import type { Server } from '@grpc/grpc-js'

/** Where a server holds much already: Node's own, the least that a peer may count on before it has greeted. */
const NARROW_WINDOW_BYTES = 64 * 1024 - 1

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

/**
 * Lets clients send `bytes` ahead of what has been read, on each stream and on each connection. grpc-js's Server has no
 * option for it (grpc/grpc-node#3058 would give it the client's), and Node's 64 KiB bind every upload to 64 KiB per
 * round trip. To be called before the server is bound; what is bound by then stays as it is.
 */
export class Windows {
  readonly #sessions = new Set<ServerHttp2Session>()
  #isNarrow = false

  constructor(private readonly bytes: number) {}

  /** @returns false, with nothing changed, where this grpc-js is built otherwise. */
  widen(server: Server): boolean {
    return adjustHttp2(server, { settings: { initialWindowSize: this.bytes } }, (http2) => {
      http2.on('session', (session) => {
        if (session.destroyed) return
        session.setLocalWindowSize(this.bytes)
        this.#sessions.add(session)
        session.once('close', () => this.#sessions.delete(session))
        if (this.#isNarrow) this.#tell(session)
      })
    })
  }

  /** Where much is held already, streams that are not read shall not hold a wide window each besides. */
  narrow(isNarrow: boolean): void {
    this.#isNarrow = isNarrow
    for (const session of this.#sessions) this.#tell(session)
  }

  /** One that does not confirm is told ten times, then Node closes it. */
  #tell(session: ServerHttp2Session): void {
    if (session.destroyed || session.closed) return
    session.settings({ initialWindowSize: this.#isNarrow ? NARROW_WINDOW_BYTES : this.bytes })
  }
}
