import { Pool } from 'farpool'
import { describe, expect, it } from 'vitest'
import { PREFACE, RawPeer, settings, Type, windowUpdate } from '../support/http2.js'
import { Siege } from '../support/siege.js'

/** A peer that says what HTTP/2 does not allow, until it is cut. */
async function offend(address: string): Promise<void> {
  using peer = await RawPeer.connect(address)
  // A window cannot grow by nothing.
  await peer.send(PREFACE, settings(), windowUpdate(0, 0))
  await peer.closed
}

/** As many as make the address wait for some seconds. */
const offendMuch = (address: string) => Promise.all(Array.from({ length: 12 }, () => offend(address)))
const isWaiting = ({ msg }: { readonly msg: string }) => msg.startsWith('connections break the protocol')
const greeted = (peer: RawPeer) => peer.frame(({ type }) => type === Type.SETTINGS)

describe('an address whose connections break the protocol', () => {
  it('has its new ones wait, and they are all served', async () => {
    await using siege = await Siege.start(['--max-violations', '2'])
    await siege.withstands(async () => {
      await offendMuch(siege.address)
      const from = performance.now()
      using peer = await RawPeer.greet(siege.address)
      await greeted(peer)
      // Half a second, for a timer that may be a little early.
      expect(performance.now() - from).toBeGreaterThan(490)
      await using pool = new Pool(siege.address)
      expect(await pool.apply('add', [1, 2])).toBe(3)
    })
    expect(siege.server.log.find(isWaiting)).toMatchObject({ address: '127.0.0.1', maxViolations: 2 })
    await siege.connectionsAreClosed()
  })

  it('has no more of them waiting than can come in 5 seconds', async () => {
    await using siege = await Siege.start(['--max-violations', '1'])
    await siege.withstands(async () => {
      await offendMuch(siege.address)
      const line = await Promise.all(Array.from({ length: 5 }, () => RawPeer.greet(siege.address)))
      const others = await Promise.all(Array.from({ length: 300 }, () => RawPeer.connect(siege.address)))
      await Promise.all(line.map(greeted))
      expect(others.filter(({ isClosed }) => isClosed).length).toBeGreaterThan(250)
      for (const peer of [...line, ...others]) peer[Symbol.dispose]()
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
