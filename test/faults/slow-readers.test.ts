import { connect } from 'node:http2'
import { status } from '@grpc/grpc-js'
import { Pool } from 'farpool'
import { describe, expect, it } from 'vitest'
import { IMapResponse } from '../../proto/gen/farpool/v1/pool_service.js'
import { IMAP, mapRequest } from '../attack/requests.js'
import { Relay } from '../chaos/relay.js'
import { sharedFarm } from '../support/farm.js'
import { frame } from '../support/raw-call.js'
import { ServerProcess, until } from '../support/server.js'

/** How calls and servers end while a client does not read its answers. */

const MIB = 1024 * 1024
const isIdle = ({ queued, running }: { queued: number; running: number }) => queued + running === 0
const farm = sharedFarm({ args: ['--processes', '2'] })

describe('an imap whose deadline passes while its client does not read', () => {
  /** The status and the number of outcomes of a stream that is read only after `read` has resolved. */
  async function imap(read: () => Promise<void>) {
    const session = connect(`http://${farm.address}`)
    const stream = session.request({
      ':method': 'POST',
      ':path': IMAP,
      'content-type': 'application/grpc',
      te: 'trailers',
      'grpc-timeout': '500m',
    })
    let status: unknown
    let bytes = Buffer.alloc(0)
    stream.on('trailers', (trailers) => {
      status = trailers['grpc-status']
    })
    stream.on('error', () => {})
    stream.pause()
    stream.end(frame(mapRequest('textOf', 64, MIB)))
    await read()
    stream.on('data', (part: Buffer) => {
      bytes = Buffer.concat([bytes, part])
    })
    stream.resume()
    await new Promise((resolve) => stream.once('close', resolve))
    session.destroy()
    let outcomes = 0
    for (let at = 0; at + 5 <= bytes.length; at += 5 + bytes.readUInt32BE(at + 1)) {
      const length = bytes.readUInt32BE(at + 1)
      if (at + 5 + length <= bytes.length)
        outcomes += IMapResponse.decode(bytes.subarray(at + 5, at + 5 + length)).outcomes.length
    }
    return { status, outcomes }
  }

  it('ends with DEADLINE_EXCEEDED after the outcomes that had been written', async () => {
    await using pool = new Pool(farm.address)
    const { status: code, outcomes } = await imap(async () => {
      const deadline = Date.now() + 500
      await until(
        async () => Date.now() > deadline && isIdle(await pool.info()),
        'its time is over, and all is given up',
      )
    })
    expect(code).toBe(String(status.DEADLINE_EXCEEDED))
    expect(outcomes).toBeLessThan(64)
  })

  it('is reset if its client does not read the status either', async () => {
    await using pool = new Pool(farm.address)
    const session = connect(`http://${farm.address}`, { settings: { initialWindowSize: 0 } })
    const stream = session.request({
      ':method': 'POST',
      ':path': IMAP,
      'content-type': 'application/grpc',
      'grpc-timeout': '100m',
    })
    stream.on('error', () => {})
    const closed = new Promise((resolve) => stream.once('close', resolve))
    stream.end(frame(mapRequest('textOf', 64, MIB)))
    await closed
    expect(stream.rstCode).toBe(8)
    expect(await pool.apply('add', [1, 2])).toBe(3)
    session.destroy()
  })
})

describe('a draining server', () => {
  it.each(['unary', 'stream'] as const)('waits until a client has read a large answer (%s)', async (transport) => {
    await using server = await ServerProcess.start(['--processes', '1', '--drain', '30000'])
    await using relay = await Relay.to(server.address)
    await using pool = new Pool(relay.address, { transport })
    await pool.apply('add', [1, 2])
    const answer = pool.apply('textOf', [48 * MIB])
    await using watcher = new Pool(server.address)
    await until(async () => (await watcher.info()).running === 1, 'it runs')
    relay.stall()
    await until(async () => (await watcher.info()).tasks.succeeded >= 2, 'it has run')
    server.signal('SIGTERM')
    await server.logged(({ msg }) => msg.startsWith('draining'))
    // Longer than the server waits for open connections after the last answer.
    const waited = new Promise((resolve) => setTimeout(resolve, 1_500))
    expect(await Promise.race([waited, server.exited])).toBe(undefined)
    relay.resume()
    expect(((await answer) as string).length).toBe(48 * MIB)
    expect(await server.exited).toBe(0)
  })
})
