import { connect } from 'node:http2'
import { Pool } from 'farpool'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  ACK,
  callHeaders,
  END_HEADERS,
  END_STREAM,
  frameOf,
  goaway,
  headerBlock,
  INITIAL_WINDOW_SIZE,
  openStream,
  ping,
  RawPeer,
  reset,
  settings,
  Type,
  windowUpdate,
} from '../support/http2.js'
import { frame } from '../support/raw-call.js'
import { temporaryFolder, until } from '../support/server.js'
import { Siege } from '../support/siege.js'
import { APPLY, applyRequest, CALL, callRequest } from './requests.js'

/** HTTP/2 frames that are legal, or nearly legal, and far too many. */

const folder = temporaryFolder()
let siege: Siege
beforeAll(async () => {
  siege = await Siege.start()
})
afterAll(async () => {
  await siege.connectionsAreClosed()
  await siege[Symbol.asyncDispose]()
  folder.remove()
})

const repeat = (count: number, make: (at: number) => Buffer) =>
  Buffer.concat(Array.from({ length: count }, (_, i) => make(i)))
/** The ids of a client's streams: 1, 3, 5, … */
const streamAt = (at: number) => 2 * at + 1
const headersOf = (path: string) => callHeaders(path)
const OPEN = openStream(1, headersOf(APPLY))

interface Flood {
  readonly first?: Buffer
  /** One batch of frames. It is sent until the server cuts the connection, at most `batches` times. */
  readonly batch: (at: number) => Buffer
  readonly batches: number
}

/** Whether the server cut the connection of the flood. */
async function flood({ first, batch, batches }: Flood): Promise<'cut' | 'goes on'> {
  using peer = await RawPeer.greet(siege.address)
  if (first) await peer.send(first)
  const told = peer.frame(({ type }) => type === Type.GOAWAY)
  let cut = false
  void told.then(() => {
    cut = true
  })
  for (let at = 0; at < batches && !cut; at++) await peer.send(batch(at))
  await Promise.race([peer.settled(), told])
  return cut || peer.isClosed ? 'cut' : 'goes on'
}

describe('a flood that costs the server more than its client loses its connection', () => {
  it.each<[string, Flood]>([
    [
      'rapid reset: 20,000 calls opened and reset',
      {
        batch: (at) =>
          repeat(100, (i) =>
            Buffer.concat([openStream(streamAt(100 * at + i), headersOf(APPLY)), reset(streamAt(100 * at + i))]),
          ),
        batches: 200,
      },
    ],
    [
      'rapid reset of calls that have begun',
      {
        batch: (at) =>
          repeat(100, (i) => {
            const stream = streamAt(100 * at + i)
            const body = frameOf(Type.DATA, END_STREAM, stream, frame(applyRequest('never')))
            return Buffer.concat([openStream(stream, headersOf(APPLY)), body, reset(stream)])
          }),
        batches: 50,
      },
    ],
    [
      '20,000 calls that are opened and never ended',
      { batch: (at) => repeat(100, (i) => openStream(streamAt(100 * at + i), headersOf(APPLY))), batches: 200 },
    ],
    [
      'CONTINUATION without an end',
      {
        first: frameOf(Type.HEADERS, 0, 1, headerBlock(headersOf(APPLY))),
        batch: () => repeat(100, () => frameOf(Type.CONTINUATION, 0, 1, headerBlock([['x', 'y'.repeat(1_000)]]))),
        batches: 100,
      },
    ],
    [
      'empty CONTINUATION',
      {
        first: frameOf(Type.HEADERS, 0, 1, headerBlock(headersOf(APPLY))),
        batch: () => repeat(1_000, () => frameOf(Type.CONTINUATION, 0, 1)),
        batches: 100,
      },
    ],
    ['SETTINGS', { batch: () => repeat(1_000, () => settings({ [INITIAL_WINDOW_SIZE]: 65_535 })), batches: 200 }],
    [
      'SETTINGS of 2,000 values',
      { batch: () => settings(Object.fromEntries(Array.from({ length: 2_000 }, (_, i) => [100 + i, 1]))), batches: 1 },
    ],
    ['PING', { batch: () => repeat(1_000, ping), batches: 200 }],
    ['empty DATA', { first: OPEN, batch: () => repeat(1_000, () => frameOf(Type.DATA, 0, 1)), batches: 200 }],
    [
      'headers with an illegal name',
      { batch: (at) => repeat(100, (i) => openStream(streamAt(100 * at + i), [['Bad Name', 'x']])), batches: 100 },
    ],
    ['GOAWAY', { batch: () => repeat(1_000, () => goaway()), batches: 20 }],
  ])('%s', async (_, attack) => {
    expect(await siege.withstands(() => flood(attack))).toBe('cut')
  })
})

describe('a flood that costs the server less than its client harms nobody', () => {
  it.each<[string, Flood]>([
    ['WINDOW_UPDATE', { batch: () => repeat(1_000, () => windowUpdate(0, 1)), batches: 200 }],
    [
      'PRIORITY of one stream',
      { batch: () => repeat(1_000, () => frameOf(Type.PRIORITY, 0, 1, Buffer.from([0, 0, 0, 9, 16]))), batches: 200 },
    ],
    [
      'PRIORITY of streams that do not exist',
      {
        batch: (at) =>
          repeat(1_000, (i) => frameOf(Type.PRIORITY, 0, streamAt(1_000 * at + i + 1), Buffer.from([0, 0, 0, 1, 16]))),
        batches: 200,
      },
    ],
    // Older versions of Node cut the connection. Newer ones ignore it, because RFC 9113 deprecates priorities.
    ['PRIORITY on itself', { batch: () => frameOf(Type.PRIORITY, 0, 1, Buffer.from([0, 0, 0, 1, 16])), batches: 1 }],
    [
      'frames of an unknown type',
      { batch: () => repeat(1_000, () => frameOf(200, 255, 1, Buffer.alloc(10))), batches: 100 },
    ],
    [
      'headers far above the limit, on 1,000 streams',
      {
        batch: (at) => {
          const large = headerBlock([['x', 'y'.repeat(16_000)]])
          const more = repeat(3, (i) => frameOf(Type.CONTINUATION, i === 2 ? END_HEADERS : 0, streamAt(at), large))
          return Buffer.concat([frameOf(Type.HEADERS, END_STREAM, streamAt(at), headerBlock(headersOf(APPLY))), more])
        },
        batches: 1_000,
      },
    ],
  ])('%s', async (_, attack) => {
    await siege.withstands(() => flood(attack))
  })

  it('a message of 300,000 one-byte frames uses less than 100 MiB', async () => {
    const whole = frame(applyRequest('identity', 'x'.repeat(300_000)))
    const pieces = Buffer.concat(Array.from(whole, (byte) => frameOf(Type.DATA, 0, 1, Buffer.of(byte))))
    const peakBytes = 100 * 1024 * 1024
    await siege.withstands(async () => {
      using peer = await RawPeer.greet(siege.address, { [INITIAL_WINDOW_SIZE]: 1_000_000 })
      await peer.send(windowUpdate(0, 1_000_000), OPEN, pieces, frameOf(Type.DATA, END_STREAM, 1))
      await peer.frame(({ type, flags }) => type === Type.HEADERS && (flags & END_STREAM) !== 0)
      expect(peer.received).toBeGreaterThan(300_000)
    }, peakBytes)
  })
})

describe('one wrong frame', () => {
  it.each<[string, Buffer]>([
    ['WINDOW_UPDATE of zero', windowUpdate(0, 0)],
    ['WINDOW_UPDATE above what a window holds', repeat(2, () => windowUpdate(0, 2 ** 31 - 1))],
    ['PRIORITY that is too short', frameOf(Type.PRIORITY, 0, 1, Buffer.from([0]))],
    [
      'PUSH_PROMISE by a client',
      frameOf(
        Type.PUSH_PROMISE,
        END_HEADERS,
        1,
        Buffer.concat([Buffer.from([0, 0, 0, 2]), headerBlock(headersOf(APPLY))]),
      ),
    ],
    ['RST_STREAM before any headers', reset(99)],
    ['DATA of a stream that does not exist', frameOf(Type.DATA, 0, 99, Buffer.alloc(10))],
    ['a stream with an even id', openStream(2, headersOf(APPLY))],
    ['CONTINUATION of nothing', frameOf(Type.CONTINUATION, END_HEADERS, 1)],
    ['SETTINGS acknowledged with values', frameOf(Type.SETTINGS, ACK, 0, Buffer.alloc(6))],
    [
      'headers with an unknown table index',
      frameOf(Type.HEADERS, END_HEADERS, 1, Buffer.from([0xff, 0xff, 0xff, 0xff, 0x0f])),
    ],
    ['a frame of 16 MiB', Buffer.from([0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1])],
    ['noise', Buffer.from(Array.from({ length: 5_000 }, (_, i) => (i * 7_919) % 256))],
  ])('ends its own connection and no other: %s', async (_, wrong) => {
    expect(await siege.withstands(() => flood({ batch: () => wrong, batches: 1 }))).toBe('cut')
  })
})

/** The limit of streams that the server announces on a new connection. */
async function maxStreamsOf(address: string): Promise<number | undefined> {
  const session = connect(`http://${address}`)
  const { maxConcurrentStreams } = await new Promise<{ maxConcurrentStreams?: number }>((resolve) =>
    session.once('remoteSettings', resolve),
  )
  session.destroy()
  return maxConcurrentStreams
}

describe('streams', () => {
  it('of a connection are limited by --max-streams; a client delays further calls, and all succeed', async () => {
    await using narrow = await Siege.start(['--max-streams', '10'])
    expect(await maxStreamsOf(narrow.address)).toBe(10)
    await using pool = new Pool(narrow.address, { transport: 'unary' })
    const sums = await Promise.all(Array.from({ length: 500 }, (_, i) => pool.apply('add', [i, 1])))
    expect(sums).toEqual(Array.from({ length: 500 }, (_, i) => i + 1))
  })

  it('above the limit are refused, also if the client never acknowledges the setting', async () => {
    await siege.withstands(async () => {
      using peer = await RawPeer.connect(siege.address)
      await peer.send(Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), settings())
      for (let at = 0; at < 50 && !peer.isClosed; at++) {
        await peer.send(repeat(100, (i) => openStream(streamAt(100 * at + i), headersOf(CALL))))
      }
      await peer.settled()
      const refused = peer.frames.filter(({ type }) => type === Type.RST_STREAM || type === Type.GOAWAY)
      expect(peer.isClosed || refused.length > 0).toBe(true)
    })
  })

  it.each([
    ['before its data', () => Buffer.concat([OPEN, reset(1)])],
    [
      'in the middle of its data',
      () => Buffer.concat([OPEN, frameOf(Type.DATA, 0, 1, frame(applyRequest('never')).subarray(0, 7)), reset(1)]),
    ],
    [
      'after its data',
      () => Buffer.concat([OPEN, frameOf(Type.DATA, END_STREAM, 1, frame(applyRequest('never'))), reset(1)]),
    ],
  ])('that are reset %s leave no task, and their connection goes on', async (_, frames) => {
    await siege.withstands(async () => {
      using peer = await RawPeer.greet(siege.address)
      await peer.send(frames())
      await peer.send(
        openStream(3, headersOf(APPLY)),
        frameOf(Type.DATA, END_STREAM, 3, frame(applyRequest('add', 1, 2))),
      )
      const answer = await peer.frame(({ type, stream }) => type === Type.DATA && stream === 3)
      expect(answer?.body.toString('latin1')).toContain('3')
    })
  })

  it('go on after a GOAWAY of the client, which forbids only streams of the server', async () => {
    await siege.withstands(async () => {
      using peer = await RawPeer.greet(siege.address)
      await peer.send(OPEN, goaway(), frameOf(Type.DATA, END_STREAM, 1, frame(applyRequest('add', 1, 2))))
      expect((await peer.frame(({ type }) => type === Type.DATA))?.body.toString('latin1')).toContain('3')
    })
  })

  it('of a client without a window end with their connection', async () => {
    await siege.withstands(async () => {
      using peer = await RawPeer.greet(siege.address, { [INITIAL_WINDOW_SIZE]: 0 })
      const { submitted } = (await siege.pool.info()).tasks
      await peer.send(
        repeat(500, (i) => {
          const body = frame(applyRequest('textOf', 64 * 1024))
          return Buffer.concat([
            openStream(streamAt(i), headersOf(APPLY)),
            frameOf(Type.DATA, END_STREAM, streamAt(i), body),
          ])
        }),
      )
      await until(async () => (await siege.pool.info()).tasks.submitted >= submitted + 500, 'all have come')
    })
  })

  it('of calls end when their client resets the connection', async () => {
    await siege.withstands(async () => {
      using peer = await RawPeer.greet(siege.address)
      await peer.send(openStream(1, headersOf(CALL)), frameOf(Type.DATA, 0, 1, frame(callRequest('never', 100))))
      await until(async () => (await siege.pool.info()).queued >= 98, 'its calls have come')
      peer.socket.resetAndDestroy()
    })
  })
})
