import type { Server } from '@grpc/grpc-js'
import { adjustHttp2 } from './http2.js'

/**
 * Lets clients send `bytes` ahead of what has been read, on each stream and on each connection. grpc-js's Server has no
 * option for it (grpc/grpc-node#3058 would give it the client's), and Node's 64 KiB bind every upload to 64 KiB per
 * round trip. To be called before the server is bound; what is bound by then stays as it is.
 *
 * @returns false, with nothing changed, where this grpc-js is built otherwise.
 */
export function widenWindows(server: Server, bytes: number): boolean {
  return adjustHttp2(server, { settings: { initialWindowSize: bytes } }, (http2) => {
    http2.on('session', (session) => {
      if (!session.destroyed) session.setLocalWindowSize(bytes)
    })
  })
}
