import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import { afterAll, describe, expect, it } from 'vitest'
import { APPLY, applyRequest } from '../attack/requests.js'
import { TestCa } from '../support/certificates.js'
import { startFarm } from '../support/farm.js'
import { callHeaders, END_STREAM, frameOf, openStream, PREFACE, RawPeer, settings, Type } from '../support/http2.js'
import { frame } from '../support/raw-call.js'
import { RawClient } from '../support/raw-unary.js'
import { farpool, temporaryFolder, until } from '../support/server.js'
import { entryOf, tokenOf, writeTokens } from '../support/tokens.js'

/** What happens above --max-connections. */

const folder = temporaryFolder()
afterAll(() => folder.remove())

const MAX = 10
const ARGS = ['--processes', '1', '--max-connections', String(MAX)]

const NOTHING: Uint8Array = Buffer.alloc(0)
const ADD = frame(applyRequest('add', 1, 2))

/** Connections that get answers to health checks only. */
const RESERVE = 32

/** A connection with an open call. Unless `request` has it, its request does not come. */
async function busyPeer(address: string, { path = APPLY, headers = {}, request = NOTHING } = {}): Promise<RawPeer> {
  const peer = await RawPeer.greet(address)
  await peer.send(openStream(1, callHeaders(path, headers)), request)
  await peer.settled()
  return peer
}

const peers = async (count: number, open: () => Promise<RawPeer>): Promise<RawPeer[]> => {
  const opened: RawPeer[] = []
  for (let at = 0; at < count; at++) opened.push(await open())
  return opened
}

const isHealthy = async (address: string) => (await farpool(['health', '--address', address])).stdout === 'SERVING\n'

describe('idle connections', () => {
  it('are closed with a GOAWAY, the longest idle first, and lock nobody out', async () => {
    await using farm = await startFarm({ args: ARGS })
    const idle = await peers(10 * MAX, () => RawPeer.greet(farm.address))
    for (const peer of idle) await peer.settled()
    await until(() => idle.filter((peer) => peer.isClosed).length === 9 * MAX, 'all but the limit are closed')
    expect(idle.findIndex((peer) => !peer.isClosed)).toBe(9 * MAX)
    for (const peer of idle.slice(0, 9 * MAX)) expect(peer.frames.map(({ type }) => type)).toContain(Type.GOAWAY)
    expect(await farm.pool.apply('add', [1, 2])).toBe(3)
    expect(await isHealthy(farm.address)).toBe(true)
    await farm.server.logged(({ msg }) => msg === 'too many connections: the longest idle ones are closed')
    for (const peer of idle) peer.socket.destroy()
  })

  it('of a client are opened anew by its next call', async () => {
    await using farm = await startFarm({ args: ARGS })
    expect(await farm.pool.apply('add', [1, 2])).toBe(3)
    let isGone = false
    farm.pool.events.addEventListener('disconnected', () => {
      isGone = true
    })
    const idle: RawPeer[] = []
    // Its stream of calls ends some time after its last call.
    await until(async () => {
      idle.push(await RawPeer.greet(farm.address))
      return isGone
    }, 'it is closed')
    expect(await farm.pool.apply('add', [1, 2])).toBe(3)
    for (const peer of idle) peer.socket.destroy()
  })

  it('do not include those with an open call', async () => {
    await using farm = await startFarm({ args: ARGS })
    using busy = await busyPeer(farm.address)
    const idle = await peers(3 * MAX, () => RawPeer.greet(farm.address))
    await until(() => idle.filter((peer) => peer.isClosed).length > MAX, 'idle ones are closed')
    expect(busy.isClosed).toBe(false)
    for (const peer of idle) peer.socket.destroy()
  })
})

describe('health checks that do not end', () => {
  it.each<[string, Uint8Array]>([
    ['Watch', frameOf(Type.DATA, END_STREAM, 1, frame(Buffer.alloc(0)))],
    ['Check', NOTHING],
  ])('%s on all connections, which need no token, lock nobody out', async (method, request) => {
    const tokens = folder.fresh()
    writeTokens(tokens, [entryOf('ann')])
    await using farm = await startFarm({ args: [...ARGS, '--tokens', tokens], options: { token: tokenOf('ann') } })
    const open = () => busyPeer(farm.address, { path: `/grpc.health.v1.Health/${method}`, request })
    const first = await peers(2 * (MAX + RESERVE), open)
    expect(await farm.pool.apply('add', [1, 2])).toBe(3)
    expect(await isHealthy(farm.address)).toBe(true)
    expect(first[0]?.frames.map(({ type }) => type)).toContain(Type.GOAWAY)
    const headers = { authorization: `Bearer ${tokenOf('ann')}` }
    // One place belongs to the pool, whose stream may still be open.
    const busy = await peers(MAX - 1, () => busyPeer(farm.address, { headers }))
    const later = await peers(2 * RESERVE, open)
    expect(await isHealthy(farm.address)).toBe(true)
    expect(busy.map((peer) => peer.isClosed)).toEqual(Array(MAX - 1).fill(false))
    for (const peer of [...first, ...busy, ...later]) peer.socket.destroy()
  })
})

describe('connections that all have open calls', () => {
  it('leave health checks to others, whose calls fail with QUEUE_FULL until there is room', async () => {
    await using farm = await startFarm({ args: ARGS })
    const busy = await peers(MAX, () => busyPeer(farm.address))
    expect(await isHealthy(farm.address)).toBe(true)
    using other = new RawClient(farm.address)
    expect(await other.send({ body: ADD })).toMatchObject({
      status: '8',
      reason: 'QUEUE_FULL',
      message: `all connections to this server have open calls, and there may be ${MAX} (max-connections)`,
    })
    // Many of them make room for each other.
    const waiting = await peers(100, () => RawPeer.greet(farm.address))
    expect(await isHealthy(farm.address)).toBe(true)
    const called = farm.pool.apply('add', [1, 2])
    busy[0]?.socket.destroy()
    expect(await called).toBe(3)
    for (const peer of [...busy, ...waiting]) peer.socket.destroy()
  })
})

describe('--max-connections-per-address', () => {
  it('limits one address, and leaves the rest to others', async () => {
    await using farm = await startFarm({ args: [...ARGS, '--max-connections-per-address', '3'] })
    const busy = await peers(3, () => busyPeer(farm.address))
    using same = new RawClient(farm.address)
    expect(await same.send({ body: ADD })).toMatchObject({
      reason: 'QUEUE_FULL',
      message: 'all connections from 127.0.0.1 have open calls, and there may be 3 (max-connections-per-address)',
    })
    using other = new RawClient(farm.address, '127.0.0.2')
    expect(await other.send({ body: ADD })).toMatchObject({ status: '0' })
    for (const peer of busy) peer.socket.destroy()
  })
})

describe('connections with TLS', () => {
  it('make room in the same way, during their handshake and after it', async () => {
    const ca = new TestCa(folder.path('.'), 'test')
    const { cert, key } = ca.issue('server')
    await using farm = await startFarm({
      args: [...ARGS, '--tls-cert', cert, '--tls-key', key],
      options: { tls: { ca: ca.cert } },
    })
    const { hostname: host, port } = new URL(`https://${farm.address}`)
    const silent = Array.from({ length: 20 * MAX }, () => connect({ host, port: Number(port) }).on('error', () => {}))
    await Promise.all(silent.map((socket) => once(socket, 'connect')))
    const options = { host, port: Number(port), ca: readFileSync(ca.cert), ALPNProtocols: ['h2'] }
    const idle: TLSSocket[] = []
    for (let at = 0; at < 3 * MAX; at++) {
      const socket = connectTls(options)
      await once(socket, 'secureConnect')
      socket.write(Buffer.concat([PREFACE, settings()]))
      idle.push(socket.on('error', () => {}).resume())
    }
    await until(
      () => idle.filter((socket) => socket.destroyed || socket.readableEnded).length === 2 * MAX,
      'they are closed',
    )
    expect(await farm.pool.apply('add', [1, 2])).toBe(3)
    for (const socket of [...silent, ...idle]) socket.destroy()
  })

  it('on a Unix socket, the oldest unfinished handshake makes room', async () => {
    const ca = new TestCa(folder.path('.'), 'unix')
    const { cert, key } = ca.issue('server')
    const path = folder.fresh()
    await using farm = await startFarm({
      args: [...ARGS, '--listen', `unix:${path}`, '--tls-cert', cert, '--tls-key', key],
      options: { tls: { ca: ca.cert } },
    })
    const silent = Array.from({ length: 20 * MAX }, () => connect(path).on('error', () => {}))
    await until(() => silent.filter(({ closed }) => closed).length === 19 * MAX, 'all but the limit are closed')
    expect(silent.findIndex(({ closed }) => !closed)).toBe(19 * MAX)
    expect(await farm.pool.apply('add', [1, 2])).toBe(3)
    for (const socket of silent) socket.destroy()
  })
})
