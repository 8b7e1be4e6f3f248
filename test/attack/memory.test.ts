import { afterEach, beforeEach, describe, it } from 'vitest'
import { callHeaders, END_STREAM, frameOf, openStream, RawPeer, Type } from '../support/http2.js'
import { frame, message } from '../support/raw-call.js'
import { until } from '../support/server.js'
import { Siege } from '../support/siege.js'
import { APPLY, applyRequest, CALL, IMAP, mapRequest } from './requests.js'

/** Clients that send as much as they may and never read: of a gigabyte the server may hold only its memory budget. */

const KIB = 1024
const MIB = 1024 * KIB
const CLIENTS = 1_000
const MAX_HELD_BYTES = 128 * MIB

/** Twice the memory budget, the connections, and garbage that is not yet collected. */
const PEAK_BYTES = 640 * MIB

// Each test has its own server: a peak hides all later and lower ones.
let siege: Siege
beforeEach(async () => {
  siege = await Siege.start(['--max-held-bytes', String(MAX_HELD_BYTES), '--max-message-bytes', String(16 * MIB)])
})
afterEach(async () => {
  await siege.connectionsAreClosed()
  await siege[Symbol.asyncDispose]()
})

/** The largest frame of HTTP/2 without other settings. */
const FRAME_BYTES = 16 * KIB

function data(stream: number, bytes: Buffer, isLast: boolean): Buffer {
  const frames: Buffer[] = []
  for (let at = 0; at < bytes.length; at += FRAME_BYTES) {
    const isEnd = isLast && at + FRAME_BYTES >= bytes.length
    frames.push(frameOf(Type.DATA, isEnd ? END_STREAM : 0, stream, bytes.subarray(at, at + FRAME_BYTES)))
  }
  return Buffer.concat(frames)
}

const rpc = (stream: number, path: string, body: Buffer, isLast = true): Buffer =>
  Buffer.concat([openStream(stream, callHeaders(path)), data(stream, body, isLast)])

const odd = (at: number) => 2 * at + 1
const text = 'x'.repeat(32 * KIB)
const calls = frame(message('identity', Object.fromEntries(Array.from({ length: 32 }, (_, id) => [id + 1, [text]]))))

/** One group of empty calls: two bytes each, and a hundred times as much when they are decoded. */
function emptyCalls(count: number): Buffer {
  const length = Buffer.alloc(3)
  for (let at = 0; at < 3; at++) length[at] = (((2 * count) >> (7 * at)) & 127) | (at < 2 ? 128 : 0)
  return frame(Buffer.concat([Buffer.from([0x0a]), length, Buffer.alloc(2 * count, Buffer.from([0x52, 0x00]))]))
}

/** Sends to all peers. Resolves when the server has stopped working on it. */
async function send(peers: readonly RawPeer[], what: Buffer): Promise<void> {
  await Promise.all(peers.map((peer) => peer.send(what)))
  let before = ''
  let unchanged = 0
  await until(async () => {
    const { running, queued, tasks } = await siege.pool.info()
    // Without the call of this client itself.
    const now = `${queued} ${running} ${tasks.submitted - tasks.succeeded}`
    unchanged = running <= 1 && now === before ? unchanged + 1 : 0
    before = now
    return unchanged === 20
  }, 'nothing more is done')
}

/** malloc keeps memory in small pieces for later, so as much as the peak may stay. */
const withstands = (attack: () => Promise<void>, peakBytes = PEAK_BYTES) =>
  siege.withstands(attack, peakBytes, PEAK_BYTES)

async function fromAThousand(what: Buffer): Promise<void> {
  const peers: RawPeer[] = []
  for (let at = 0; at < CLIENTS; at += 100) {
    peers.push(...(await Promise.all(Array.from({ length: 100 }, () => RawPeer.greet(siege.address)))))
  }
  await send(peers, what)
  for (const peer of peers) peer.socket.destroy()
}

const streamOfCalls = rpc(1, CALL, calls, false)

describe('a thousand clients that never read', () => {
  it.each<[string, Buffer]>([
    [
      'calls of 64 KiB of results each',
      Buffer.concat(
        Array.from({ length: 16 }, (_, at) => rpc(odd(at), APPLY, frame(applyRequest('textOf', 64 * KIB)))),
      ),
    ],
    ['an imap of large results', rpc(1, IMAP, frame(mapRequest('textOf', 16, 64 * KIB)))],
    ['messages that do not come whole', rpc(1, APPLY, frame(Buffer.alloc(MIB), 4 * MIB), false)],
  ])('do not exceed the memory budget: %s', async (_, what) => {
    await withstands(() => fromAThousand(what))
  })

  it('use no more memory when they do it a second time', async () => {
    await withstands(() => fromAThousand(streamOfCalls))
    await withstands(() => fromAThousand(streamOfCalls), PEAK_BYTES / 2)
  })
})

describe('one client that never reads', () => {
  it('does not exceed the memory budget with a thousand streams of calls', async () => {
    await withstands(async () => {
      using peer = await RawPeer.greet(siege.address)
      for (let at = 0; at < 1_000; at++) await peer.send(rpc(odd(at), CALL, calls, false))
      await send([peer], Buffer.alloc(0))
    })
  })

  it('does not exceed the memory budget if the messages of a hundred streams end at the same time', async () => {
    const body = Buffer.concat([frame(Buffer.alloc(0)), emptyCalls(125_000)])
    await withstands(async () => {
      using peer = await RawPeer.greet(siege.address)
      const streams = Array.from({ length: 100 }, (_, at) => odd(at))
      for (const stream of streams) await peer.send(rpc(stream, CALL, body.subarray(0, -1), false))
      await send([peer], Buffer.concat(streams.map((stream) => data(stream, body.subarray(-1), false))))
      // Each is refused, because the calls have no ids.
      for (const _ of streams) await peer.frame(({ type, flags }) => type === Type.HEADERS && (flags & END_STREAM) > 0)
    })
  })
})
