import { connect, type Socket } from 'node:net'
import { Pool } from 'farpool'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  callHeaders,
  END_STREAM,
  frameOf,
  headerBlock,
  INITIAL_WINDOW_SIZE,
  openStream,
  PREFACE,
  RawPeer,
  settings,
  Type,
  windowUpdate,
} from '../support/http2.js'
import { frame } from '../support/raw-call.js'
import { until } from '../support/server.js'
import { Siege } from '../support/siege.js'
import { APPLY, applyRequest, CALL, callRequest } from './requests.js'

/** Peers that are silent, slow, speak another protocol, or come in thousands. */

let siege: Siege
beforeAll(async () => {
  siege = await Siege.start()
})
afterAll(async () => {
  await siege.connectionsAreClosed()
  await siege[Symbol.asyncDispose]()
})

/** Sends these bytes one by one, a second apart, until the connection is closed. */
async function drip(peer: RawPeer, bytes: Uint8Array): Promise<void> {
  for (const byte of bytes) {
    if (peer.isClosed) return
    await peer.send(Buffer.of(byte))
    // Not a wait for an event: the test is about a slow peer.
    await Promise.race([new Promise((resolve) => setTimeout(resolve, 1_000)), peer.closed])
  }
}

const CALLED = Buffer.concat([PREFACE, settings(), openStream(1, callHeaders(APPLY))])
const BODY = frame(applyRequest('add', 1, 2))

describe('a silent peer loses its connection', () => {
  // They run at the same time: the server waits 5 to 20 seconds for each.
  it.concurrent.each<[string, Uint8Array, Uint8Array]>([
    ['that says nothing', Buffer.alloc(0), Buffer.alloc(0)],
    ['that speaks TLS', Buffer.from('1603010200010001fc0303', 'hex'), Buffer.alloc(512)],
    ['that speaks HTTP/1.1', Buffer.from('POST / HTTP/1.1\r\nHost: farpool\r\n\r\n'), Buffer.alloc(0)],
    ['that greets at a byte a second', Buffer.alloc(0), PREFACE],
    ['that stops in its greeting', PREFACE.subarray(0, 10), Buffer.alloc(0)],
    ['that greets without settings', PREFACE, Buffer.alloc(0)],
    ['that sends headers at a byte a second', Buffer.concat([PREFACE, settings()]), openStream(1, callHeaders(APPLY))],
    [
      'whose headers never end',
      Buffer.concat([PREFACE, settings(), frameOf(Type.HEADERS, 0, 1, headerBlock(callHeaders(APPLY)))]),
      Buffer.alloc(0),
    ],
    ['that sends a frame of data at a byte a second', CALLED, frameOf(Type.DATA, 0, 1, BODY)],
    [
      'that is gone in the middle of a message',
      Buffer.concat([CALLED, frameOf(Type.DATA, 0, 1, BODY.subarray(0, 9))]),
      Buffer.alloc(0),
    ],
    [
      'that is gone while its calls run',
      Buffer.concat([
        PREFACE,
        settings(),
        openStream(1, callHeaders(CALL)),
        frameOf(Type.DATA, 0, 1, frame(callRequest('never', 20))),
      ]),
      Buffer.alloc(0),
    ],
  ])('%s', async (_, first, slowly) => {
    using peer = await RawPeer.connect(siege.address)
    await peer.send(first)
    void drip(peer, slowly)
    await peer.closed
  })

  it('and leaves nothing in the server', async () => {
    await siege.withstands(async () => {})
  })
})

describe('a peer that does not read its answer', () => {
  it('loses its connection and its answer when it does not answer a ping', async () => {
    const MIB = 1024 * 1024
    await siege.withstands(async () => {
      using peer = await RawPeer.greet(siege.address, { [INITIAL_WINDOW_SIZE]: 2 ** 30 })
      const body = frame(applyRequest('textOf', 32 * MIB))
      await peer.send(
        windowUpdate(0, 2 ** 30),
        openStream(1, callHeaders(APPLY)),
        frameOf(Type.DATA, END_STREAM, 1, body),
      )
      await until(() => peer.received > MIB, 'it is being answered')
      peer.socket.pause()
      await siege.connectionsAreClosed()
    })
  })
})

describe('thousands of connections', () => {
  const MAX = 100

  it('above --max-connections are closed: the longest idle, and none with an open call', async () => {
    await using narrow = await Siege.start(['--max-connections', String(MAX)])
    using busy = await RawPeer.greet(narrow.address)
    await busy.send(openStream(1, callHeaders(APPLY)))
    await busy.settled()
    await narrow.withstands(async () => {
      const { hostname, port } = new URL(`http://${narrow.address}`)
      let closed = 0
      const sockets: Socket[] = []
      for (let batch = 0; batch < 20; batch++) {
        await Promise.all(
          Array.from(
            { length: 100 },
            () =>
              new Promise<void>((resolve) => {
                const socket = connect(Number(port), hostname, resolve)
                socket.on('error', () => {})
                socket.on('close', () => {
                  closed++
                  resolve()
                })
                socket.resume()
                sockets.push(socket)
              }),
          ),
        )
      }
      await until(() => closed >= sockets.length - MAX, `all but ${MAX} are closed`)
      await narrow.server.logged(({ msg }) => msg.startsWith('too many connections'))
      for (const socket of sockets) socket.destroy()
    })
    expect(busy.isClosed).toBe(false)
    busy.socket.destroy()
    await narrow.connectionsAreClosed()
    await using late = new Pool(narrow.address)
    expect(await late.apply('add', [1, 2])).toBe(3)
  })

  it('that are opened and reset leave nothing', async () => {
    await siege.withstands(async () => {
      for (let batch = 0; batch < 20; batch++) {
        const peers = await Promise.all(Array.from({ length: 100 }, () => RawPeer.greet(siege.address)))
        for (const peer of peers) peer.socket.resetAndDestroy()
      }
    })
  })
})
