import { existsSync, readFileSync } from 'node:fs'
import { Pool } from 'farpool'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { Host } from '../chaos/network.js'
import { errorOf } from '../support/calls.js'
import { runClient } from '../support/client.js'
import { isAlive, type ServerProcess, temporaryFolder, until } from '../support/server.js'
import { descriptors, isNowhere, notHere, serveOn, VANISHED_MS } from './hosts.js'

const ITEMS = [1, 2, 3, 4, 5]
const SQUARES = [1, 4, 9, 16, 25]

/** Peers that vanish without a FIN or a reset. */

describe.skipIf(isNowhere)(`a machine that vanishes${notHere}`, () => {
  let folder: ReturnType<typeof temporaryFolder>
  let host: Host
  let server: ServerProcess
  beforeAll(() => {
    folder = temporaryFolder()
  })
  beforeEach(async () => {
    host = await Host.join(1)
    server = await serveOn(host, '--processes', '5', '--grace', '200')
  })
  afterEach(async () => {
    await server?.[Symbol.asyncDispose]()
    await host?.[Symbol.asyncDispose]()
  })
  afterAll(() => folder.remove())

  it(
    'with a client: the server aborts its calls and closes its pool and connections',
    async () => {
      await using home = await Host.join(2)
      await using other = new Pool(server.address)
      expect(await other.map('square', ITEMS)).toEqual(SQUARES)
      const info = await other.info()
      const before = descriptors(server.pid)
      const file = (name: string) => `${folder.path('call')}-${name}`
      const client = runClient(
        `
          const { credentials, loadPackageDefinition } = (await import('@grpc/grpc-js')).default
          const { loadSync } = (await import('@grpc/proto-loader')).default
          const file = (name) => ${JSON.stringify(file(''))} + name
          const address = ${JSON.stringify(server.address)}
          const mine = new Pool(address, { processes: 1 })
          const pids = await mine.map('pid', [0])
          new Pool(address).applyAsync('untilAborted', [file('stream')])
          new Pool(address, { transport: 'unary' }).applyAsync('untilAborted', [file('unary')])
          new Pool(address).imapUnordered('untilAborted', [file('imap')]).next()
          const proto = loadPackageDefinition(loadSync('farpool/v1/pool_service.proto', { includeDirs: ['proto'] }))
          const stub = new proto.farpool.v1.PoolService(address, credentials.createInsecure())
          stub.apply({ function: 'untilAborted', args: [{ json: JSON.stringify(file('plain')) }] }, () => {})
          new Pool(address).applyAsync('busyUntil', [file('never'), 0])
          mine.applyAsync('untilAborted', [file('own')])
          console.log(pids[0])
        `,
        home.prefix,
      )
      const own = Number(await new Promise((resolve) => client.stdout?.once('data', resolve)))
      const calls = ['stream', 'unary', 'imap', 'plain']
      await until(() => [...calls, 'own'].every((name) => existsSync(file(name))), 'its calls have begun')
      await until(async () => (await other.info()).running === 5, 'all five run')
      const busy = (await other.info()).workers.find((worker) => worker.function === 'busyUntil')?.pid ?? 0
      await home.unplug()
      client.kill('SIGKILL')
      await until(
        () => calls.every((name) => readFileSync(file(name), 'utf8').includes('aborted')),
        'the functions have been told',
      )
      await until(() => !isAlive(own) && !isAlive(busy), 'its own pool, and the worker that did not listen, are gone')
      await until(async () => (await other.info()).running === 0, 'nothing runs')
      expect(await other.map('square', ITEMS)).toEqual(SQUARES)
      await until(() => descriptors(server.pid) === before, 'the server holds no more than before')
      const after = await other.info()
      expect(after.workers.map(({ pid }) => pid).sort()).toEqual(
        expect.arrayContaining(info.workers.map(({ pid }) => pid).filter((pid) => pid !== busy)),
      )
    },
    VANISHED_MS,
  )

  it(
    'with a server: calls of each kind fail, by their timeout or with CONNECTION_LOST',
    async () => {
      const stream = new Pool(server.address)
      const unary = new Pool(server.address, { transport: 'unary' })
      const own = new Pool(server.address, { processes: 1 })
      for (const pool of [stream, unary, own]) expect(await pool.apply('add', [1, 2])).toBe(3)
      const lost = [
        stream.applyAsync('never'),
        stream.mapAsync('never', [1, 2]),
        stream.imap('never', [1]).next(),
        unary.applyAsync('never'),
        unary.mapAsync('never', [1, 2]),
        own.applyAsync('never'),
      ].map(errorOf)
      const late = [stream, unary].map((pool) => errorOf(pool.apply('never', [], undefined, { timeout: 3_000 })))
      await until(async () => (await stream.info()).running === 5, 'the server is at work')
      await host.unplug()
      server.signal('SIGKILL')
      for (const error of await Promise.all(late)) expect(error.reason).toBe('TASK_TIMEOUT')
      for (const error of await Promise.all(lost)) expect(error.reason).toBe('CONNECTION_LOST')
      const next = await Promise.all([stream, unary].map((pool) => errorOf(pool.apply('add', [1, 2]))))
      expect(next.map(({ reason, started }) => [reason, started])).toEqual(Array(2).fill(['CONNECTION_FAILED', false]))
      // The kernel would have gone on trying for two minutes.
      for (const { message } of next) expect(message).toContain('no connection was made within 20 s')
      await Promise.all([stream.terminate(), unary.terminate(), own.terminate()])
    },
    VANISHED_MS,
  )
})
