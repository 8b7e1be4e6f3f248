import { once } from 'node:events'
import { createServer as createHttp2Server } from 'node:http2'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import type { Readable } from 'node:stream'
import { Pool } from 'farpool'
import { describe, expect, it } from 'vitest'
import { SilentConnections } from '../../wire/silent-connections.js'
import { runClient } from '../support/client.js'
import { sharedFarm, startFarm } from '../support/farm.js'
import { isAlive, until } from '../support/server.js'

/** Peers that are alive and say nothing: they compute, are stopped, or do not read. test/network/ has those that vanish. */

/** Longer than a peer had once to answer a ping. */
const SILENT_MS = 21_000

const lineOf = async (output: Readable | null): Promise<string> => String((await once(output as Readable, 'data'))[0])

/** A program that has calls of every kind under way, says so, does `meanwhile`, and prints the outcomes and later ones. */
const program = (address: string, meanwhile: string) => `
  const address = ${JSON.stringify(address)}
  const pools = [{}, { transport: 'unary' }, { processes: 1 }].map((options) => new Pool(address, options))
  const all = (call) => Promise.all(pools.map((pool) => call(pool).catch(({ message }) => message)))
  await all((pool) => pool.apply('add', [1, 2]))
  const calls = all((pool) => pool.apply('busyFor', [500]))
  const maps = all((pool) => pool.map('square', [1, 2, 3]))
  await new Promise((resolve) => setTimeout(resolve, 100))
  console.log('begun')
  ${meanwhile}
  console.log(JSON.stringify([await calls, await maps, await all((pool) => pool.apply('add', [1, 2]))]))`

const ALL = [
  [500, 500, 500],
  [
    [1, 4, 9],
    [1, 4, 9],
    [1, 4, 9],
  ],
  [3, 3, 3],
]
const COMPUTE = (ms: number) => `
  await new Promise((resolve) => setTimeout(resolve, 10))
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ${ms})`

// The tests wait at the same time.
describe.concurrent('a client that is silent for longer than a ping takes', () => {
  const farm = sharedFarm({ args: ['--processes', '2'] })

  it('because it computes keeps its calls and its pool', async () => {
    const client = runClient(program(farm.address, COMPUTE(SILENT_MS)))
    await lineOf(client.stdout)
    expect(JSON.parse(await lineOf(client.stdout))).toEqual(ALL)
  })

  it('because it is stopped keeps its calls and its pool', async () => {
    const client = runClient(program(farm.address, ''))
    await lineOf(client.stdout)
    client.kill('SIGSTOP')
    // Not a wait for an event: the test is about this time.
    await new Promise((resolve) => setTimeout(resolve, SILENT_MS))
    client.kill('SIGCONT')
    expect(JSON.parse(await lineOf(client.stdout))).toEqual(ALL)
  })
})

describe.concurrent('a server that is stopped', () => {
  it('keeps the calls and the pools of its clients', async () => {
    await using farm = await startFarm({ args: ['--processes', '2'] })
    await using own = new Pool(farm.address, { processes: 1 })
    for (const pool of [farm.pool, own]) expect(await pool.apply('add', [1, 2])).toBe(3)
    const calls = [farm.pool, own].map((pool) => pool.applyAsync('busyFor', [500]))
    await until(async () => (await farm.pool.info()).running === 1, 'it runs')
    farm.server.signal('SIGSTOP')
    // Not a wait for an event: the test is about this time.
    await new Promise((resolve) => setTimeout(resolve, SILENT_MS))
    farm.server.signal('SIGCONT')
    for (const call of calls) expect(await call).toBe(500)
    for (const pool of [farm.pool, own]) expect(await pool.apply('add', [1, 2])).toBe(3)
  })
})

describe.concurrent('a client that is silent for longer than --ping-timeout', () => {
  it('is told so when its calls fail, and its pool opens anew', async () => {
    await using farm = await startFarm({ args: ['--processes', '2', '--ping-timeout', '5000', '--grace', '200'] })
    const client = runClient(`
      const address = ${JSON.stringify(farm.address)}
      const pools = [{}, { transport: 'unary' }, { processes: 1 }].map((options) => new Pool(address, options))
      const outcomes = (call) => Promise.all(pools.map((pool) => call(pool).catch(({ reason, message }) => [reason, message])))
      await outcomes((pool) => pool.apply('add', [1, 2]))
      console.log((await pools[2].info()).workers[0].pid)
      const calls = outcomes((pool) => pool.apply('never'))
      await new Promise((resolve) => setTimeout(resolve, 100))
      ${COMPUTE(SILENT_MS)}
      const lost = await calls
      console.log(JSON.stringify([lost, await outcomes((pool) => pool.apply('add', [1, 2]))]))
      process.exit()`)
    const own = Number(await lineOf(client.stdout))
    const said = await farm.server.logged(({ msg }) => msg.startsWith('the client did not answer'))
    expect(said.msg).toBe('the client did not answer for 5 s; its connection is closed')
    await until(() => !isAlive(own), 'its pool is gone')
    await until(async () => (await farm.pool.info()).running === 0, 'its calls are gone')
    const [lost, later] = JSON.parse(await lineOf(client.stdout)) as [[string, string][], unknown[]]
    expect(lost.map(([reason]) => reason)).toEqual(Array(3).fill('CONNECTION_LOST'))
    for (const [, message] of lost)
      expect(message).toMatch(/; the client did not answer for 2\d s, because its program computed or was stopped$/)
    expect(later).toEqual([3, 3, 3])
  })
})

describe.concurrent('a client with a call under way', () => {
  it('pings a server that says nothing', async () => {
    const server = createHttp2Server()
    await once(server.listen(0, '127.0.0.1'), 'listening')
    const pinged = once(server, 'session').then(([session]) => once(session, 'ping'))
    const pool = new Pool(`127.0.0.1:${(server.address() as AddressInfo).port}`)
    const call = pool.apply('never').catch(() => {})
    await pinged
    await Promise.all([pool.terminate(), call])
    server.close()
  })
})

describe.concurrent('a connection', () => {
  it.runIf(process.platform === 'linux')(
    'that Node does not read ends, also if it was reset; one that is only silent does not',
    async () => {
      const accepted: Socket[] = []
      const server = createServer((socket) => accepted.push(socket.on('error', () => {})))
      await once(server.listen(0, '127.0.0.1'), 'listening')
      const connections = new SilentConnections()
      const [unread, reset, silent] = await Promise.all(
        ['unread', 'reset', 'silent'].map(async () => {
          const socket = connect(server.address() as { port: number })
          await once(socket, 'connect')
          connections.watch(socket)
          return socket.pause()
        }),
      )
      if (!unread || !reset || !silent) return expect.unreachable('all are connected')
      const failed = [unread, reset].map((socket) => once(socket, 'error'))
      await until(() => accepted.length === 3, 'all are accepted')
      const peerOf = (socket: Socket) => accepted.find(({ remotePort }) => remotePort === socket.localPort)
      for (const socket of [unread, reset]) peerOf(socket)?.write(Buffer.alloc(2 ** 20))
      await until(() => reset.bytesRead > 0, 'Node has read what it takes of it')
      peerOf(reset)?.resetAndDestroy()
      const [[first], [second]] = (await Promise.all(failed)) as [unknown[], unknown[]]
      expect(String(first)).toContain('what has arrived is not read')
      expect(String(second)).toContain('the peer has reset the connection')
      expect(silent.destroyed).toBe(false)
      silent.destroy()
      server.close()
    },
  )
})
