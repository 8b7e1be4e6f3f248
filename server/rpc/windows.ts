import type { ServerHttp2Session } from 'node:http2'
import type { Server } from '@grpc/grpc-js'
import { NARROW_WINDOW_BYTES } from '../../wire/limits.js'
import { adjustHttp2 } from './http2.js'

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
