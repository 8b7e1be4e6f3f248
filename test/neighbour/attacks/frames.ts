import { APPLY, applyRequest, CALL } from '../../attack/requests.js'
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

/** Attacks with frames of HTTP/2 that are legal, or nearly, and far too many. */

const repeat = (count: number, make: (at: number) => Buffer) =>
  Buffer.concat(Array.from({ length: count }, (_, at) => make(at)))
const streamAt = (at: number) => 2 * at + 1

/** Frames in batches, on one connection after another: the server cuts those that it has enough of. */
const flood = (what: string, name: string, size: number, batchOf: (at: number) => Buffer): Attack => ({
  what,
  async run(target) {
    while (!target.isOver) {
      using peer = await RawPeer.greet(target.address)
      target.did('connections')
      for (let at = 0; !target.isOver && !peer.isClosed && !peer.socket.destroyed; at++) {
        // One that has been cut, or that nobody reads, must not be waited for when it is over.
        await Promise.race([peer.send(batchOf(at)), target.over])
        target.did(name, size)
        // What came back is of no interest; it would take memory.
        peer.frames.length = 0
        await new Promise((resolve) => setImmediate(resolve))
      }
    }
  },
})

export const FRAME_ATTACKS: Record<string, Attack> = {
  connections: {
    what: 'connections opened, greeted and cut, 50 at a time',
    async run(target) {
      await target.keep(50, async () => {
        using peer = await RawPeer.greet(target.address)
        await Promise.race([peer.frame(({ type }) => type === Type.SETTINGS), peer.closed])
        peer.socket.resetAndDestroy()
        return 'connections'
      })
    },
  },
  resets: flood('calls that have begun and are reset', 'calls', 100, (at) =>
    repeat(100, (i) => {
      const stream = streamAt(100 * at + i)
      const body = frameOf(Type.DATA, END_STREAM, stream, frame(applyRequest('busy', 1)))
      return Buffer.concat([openStream(stream, callHeaders(APPLY)), body, reset(stream)])
    }),
  ),
  opens: flood('calls that are opened and never ended', 'calls', 100, (at) =>
    repeat(100, (i) => openStream(streamAt(100 * at + i), callHeaders(CALL))),
  ),
  pings: flood('pings', 'pings', 1_000, () => repeat(1_000, ping)),
  settings: flood('settings', 'settings', 1_000, () =>
    repeat(1_000, () => settings({ [INITIAL_WINDOW_SIZE]: 65_535 })),
  ),
  updates: flood('window updates, which are never too many', 'updates', 1_000, () =>
    repeat(1_000, () => frameOf(Type.PRIORITY, 0, 1, Buffer.from([0, 0, 0, 9, 16]))),
  ),
}
