import { EventEmitter } from 'node:events'
import type { ServerHttp2Session, Settings } from 'node:http2'
import type { Server } from '@grpc/grpc-js'

/** What we touch of grpc-js's Server beside its public side: the one place, looked at before it is used. */
interface Inside {
  commonServerOptions: { settings?: Settings }
  createHttp2Server(credentials: unknown): unknown
}

/**
 * Lets clients send `bytes` ahead of what has been read, on each stream and on each connection. grpc-js's Server has no
 * option for it (grpc/grpc-node#3058 would give it the client's), and Node's 64 KiB bind every upload to 64 KiB per
 * round trip. To be called before the server is bound; what is bound by then stays as it is.
 *
 * @returns false, with nothing changed, where this grpc-js is built otherwise.
 */
export function widenWindows(server: Server, bytes: number): boolean {
  const inside: Partial<Inside> = server as unknown as Inside
  const { commonServerOptions: common, createHttp2Server: create } = inside
  if (typeof common !== 'object' || common === null || typeof create !== 'function') return false
  common.settings = { ...common.settings, initialWindowSize: bytes }
  inside.createHttp2Server = (credentials) => {
    const made = create.call(server, credentials)
    if (made instanceof EventEmitter) {
      made.on('session', (session: ServerHttp2Session) => {
        if (!session.destroyed) session.setLocalWindowSize(bytes)
      })
    }
    return made
  }
  return true
}
