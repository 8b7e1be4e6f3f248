import { connect } from 'node:net'
import { Pool } from 'farpool'
import { describe, expect, it } from 'vitest'
import { frameOf, PREFACE, RawPeer, Type } from '../support/http2.js'
import { until } from '../support/server.js'
import { Siege } from '../support/siege.js'

/** A peer that says what HTTP/2 does not allow, until it is cut. */
async function offend(address: string): Promise<void> {
  using peer = await RawPeer.connect(address)
  // A window cannot grow by nothing.
  await peer.send(
    Buffer.concat([PREFACE, frameOf(Type.SETTINGS, 0, 0), frameOf(Type.WINDOW_UPDATE, 0, 0, Buffer.alloc(4))]),
  )
  await peer.closed
}

const isWaiting = ({ msg }: { readonly msg: string }) => msg.startsWith('connections break the protocol')

describe('an address whose connections break the protocol', () => {
  it('has its new ones wait, and they are all served', async () => {
    await using siege = await Siege.start(['--max-violations', '5'])
    await siege.withstands(async () => {
      for (let n = 0; n < 10; n++) await offend(siege.address)
      expect(siege.server.log.filter(isWaiting)).toMatchObject([{ address: '127.0.0.1', maxViolations: 5 }])
      for (let n = 0; n < 3; n++) {
        await using pool = new Pool(siege.address)
        expect(await pool.apply('add', [1, 2])).toBe(3)
      }
    })
    await siege.connectionsAreClosed()
  })

  it('has no more of them waiting than can come in some seconds', async () => {
    await using siege = await Siege.start(['--max-violations', '2'])
    await siege.withstands(async () => {
      for (let n = 0; n < 5; n++) await offend(siege.address)
      const { hostname, port } = new URL(`http://${siege.address}`)
      let closed = 0
      const sockets = Array.from({ length: 300 }, () => {
        const socket = connect(Number(port), hostname)
        socket.on('error', () => {})
        return socket.on('close', () => closed++).resume()
      })
      await until(() => closed >= 250, 'most of them are closed')
      for (const socket of sockets) socket.destroy()
    })
    await siege.connectionsAreClosed()
  })

  it('may do so as often as it likes where there is no limit', async () => {
    await using siege = await Siege.start(['--max-violations', '0'])
    await siege.withstands(async () => {
      for (let n = 0; n < 60; n++) await offend(siege.address)
    })
    expect(siege.server.log.filter(isWaiting)).toEqual([])
  })
})
