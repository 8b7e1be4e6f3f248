import { existsSync, writeFileSync } from 'node:fs'
import { status } from '@grpc/grpc-js'
import { type FarpoolError, Pool, type PoolOptions } from 'farpool'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { GetServerInfoResponse } from '../../proto/gen/farpool/v1/pool_service.js'
import { errorOf } from '../support/calls.js'
import { farpool, ServerProcess, temporaryFolder, until } from '../support/server.js'
import { answer, failure, makeStub, request, type Stub } from '../support/stub.js'

/** Both modules have a function `who`, which is another one in each. */
const TEXT = `
  export const who = () => 'text'
  export const shout = (text) => text.toUpperCase()
  export const prepare = () => {}
`
const IMAGES = `
  import { existsSync, writeFileSync } from 'node:fs'
  import { getHeapStatistics } from 'node:v8'
  let dark = false
  export const who = () => 'images'
  export const invert = (value) => (dark ? value : 255 - value)
  export const darken = () => { dark = true }
  export const heapMb = () => getHeapStatistics().heap_size_limit / 2 ** 20
  export const print = (text) => console.log(text)
  export const wait = async (begun, go) => {
    writeFileSync(begun, '')
    while (!existsSync(go)) await new Promise((resolve) => setTimeout(resolve, 5))
    return 'went on'
  }
`
const CONFIG = `
modules: [./text.mjs]
processes: 1
pools:
  images:
    modules: [./images.mjs]
    processes: 2
    grace: 1234
    max-heap-mb: 99
    max-queued-per-client: 3
`

const folder = temporaryFolder()
const serve = (...args: string[]) => ServerProcess.start(['--config', folder.path('farpool.yaml'), ...args], [])

beforeAll(() => {
  writeFileSync(folder.path('text.mjs'), TEXT)
  writeFileSync(folder.path('images.mjs'), IMAGES)
  writeFileSync(folder.path('farpool.yaml'), CONFIG)
})
afterAll(() => folder.remove())

describe('a server of two shared pools', () => {
  let server: ServerProcess
  let stub: Stub
  const connect = (options: PoolOptions = {}) => new Pool(server.address, options)
  beforeAll(async () => {
    server = await serve('--max-processes', '5')
    stub = makeStub(server.address)
  })
  afterAll(async () => {
    stub.close()
    await server[Symbol.asyncDispose]()
  })

  it.each(['stream', 'unary'] as const)('runs each call in the pool that its client names (%s)', async (transport) => {
    await using text = connect({ transport })
    await using images = connect({ transport, pool: 'images' })
    expect(await Promise.all([text.apply('who'), images.apply('who')])).toEqual(['text', 'images'])
    expect(await images.map('invert', [0, 1, 255])).toEqual([255, 254, 0])
    const inverted: unknown[] = []
    for await (const value of images.imap('invert', [0, 255])) inverted.push(value)
    expect(inverted).toEqual([255, 0])
    expect(await errorOf(text.apply('invert', [1]))).toMatchObject({ reason: 'FUNCTION_NOT_FOUND' })
    expect((await errorOf(images.apply('shout', ['a']))).message).toMatch(
      /registered: darken, heapMb, invert, print, wait, who$/,
    )
  })

  it('has functions, processes and settings of each pool', async () => {
    await using text = connect({ pool: 'default' })
    await using images = connect({ pool: 'images' })
    expect((await text.functions()).map(({ name }) => name)).toEqual(['prepare', 'shout', 'who'])
    expect((await images.functions()).map(({ name }) => name)).toContain('invert')
    const pools = ['default', 'images']
    expect(await text.info()).toMatchObject({ pool: 'default', processes: 1, server: { graceMs: 2_000, pools } })
    expect(await images.info()).toMatchObject({
      pool: 'images',
      shared: true,
      processes: 2,
      server: { graceMs: 1_234, pools },
    })
    // Node adds the young generation to the limit: up to 192 MiB.
    expect(await images.apply('heapMb')).toBeLessThan(400)
  })

  it('tells a plain stub the names of its pools, and the facts of one', async () => {
    const info = (pool: string) => answer<GetServerInfoResponse>((done) => stub.getServerInfo({ pool }, done))
    expect(await info('')).toMatchObject({ pools: ['default', 'images'], processes: 1 })
    expect(await info('images')).toMatchObject({ pools: ['default', 'images'], processes: 2, graceMs: 1_234 })
  })

  it('makes a pool of the client out of the shared pool that it names', async () => {
    await using own = connect({ pool: 'images', processes: 1, initializer: 'darken' })
    expect(await own.apply('invert', [1])).toBe(1)
    expect(await own.info()).toMatchObject({ shared: false, processes: 1, server: { graceMs: 1_234 } })
    expect((await own.functions()).map(({ name }) => name)).toContain('invert')
    await using other = connect({ pool: 'images', initializer: 'prepare' })
    expect(await errorOf(other.apply('who'))).toMatchObject({ reason: 'FUNCTION_NOT_FOUND' })
  })

  it('counts the processes of all pools', async () => {
    await using own = connect({ processes: 3 })
    const error = await errorOf(own.apply('who', [], undefined, { timeout: 300 }))
    expect(error.message).toBe('a pool of 3 processes, where there are 3; all pools may have 5')
  })

  it('goes on with one pool while the other is busy', async () => {
    await using text = connect()
    await using images = connect({ pool: 'images' })
    const go = folder.fresh()
    const begun = [folder.fresh(), folder.fresh()]
    const calls = [...begun.map((file) => images.applyAsync('wait', [file, go])), images.applyAsync('who')]
    await until(() => begun.every(existsSync), 'its workers are busy')
    expect(await text.apply('who')).toBe('text')
    expect((await images.info()).queued).toBe(1)
    writeFileSync(go, '')
    expect(await Promise.all(calls)).toEqual(['went on', 'went on', 'images'])
  })

  it('reads the calls of a client no further than the limits of their pool say', async () => {
    await using images = connect({ pool: 'images' })
    const go = folder.fresh()
    const begun = [folder.fresh(), folder.fresh()]
    const calls: PromiseLike<unknown>[] = begun.map((file) => images.applyAsync('wait', [file, go]))
    await until(() => begun.every(existsSync), 'its workers are busy')
    for (let value = 0; value < 10; value++) {
      calls.push(images.applyAsync('invert', [value]))
      // It comes to the server behind the call, so that each call is a message of its own.
      await images.info()
    }
    // Of the calls that are open, the fourth is one too many.
    expect(await images.info()).toMatchObject({ running: 2, queued: 2 })
    writeFileSync(go, '')
    const inverted = Array.from({ length: 10 }, (_, value) => 255 - value)
    expect(await Promise.all(calls)).toEqual(['went on', 'went on', ...inverted])
  })

  it.each<[string, (pool: Pool) => Promise<unknown>]>([
    ['a call', (pool) => pool.apply('who')],
    ['a map', (pool) => pool.map('who', [1])],
    ['functions()', (pool) => pool.functions()],
    ['info()', (pool) => pool.info()],
    ['ready()', (pool) => pool.ready()],
  ])('refuses %s in a pool that it does not have, and names those that it has', async (_, use) => {
    for (const options of [{}, { transport: 'unary' }, { processes: 1 }] as const) {
      await using pool = connect({ ...options, pool: 'imges' })
      const error: FarpoolError = await errorOf(use(pool))
      expect([error.reason, error.code, error.message]).toEqual([
        'POOL_NOT_FOUND',
        'NOT_FOUND',
        'no pool "imges"; shared pools: default, images',
      ])
    }
  })

  it('refuses to make a pool out of a pool of a client', async () => {
    await using own = connect({ processes: 1 })
    const sharedPool = (await own.info()).pool
    const lease = stub.openPool({
      sharedPool,
      processes: 1,
      initializer: '',
      initargs: [],
      maxtasksperchild: undefined,
    })
    const error = await new Promise((resolve) => lease.once('error', resolve))
    expect(error).toMatchObject({
      code: status.INVALID_ARGUMENT,
      details: `"${sharedPool}" is no shared pool; shared pools: default, images`,
    })
  })

  it.each([{ pool: '' }, { pool: 5 }, { pool: null }])('is not asked for the pool of %j', (options) => {
    expect(() => connect(options as PoolOptions)).toThrow(/^pool is .*; it must be the name of a shared pool/)
  })

  it('logs what functions print with the name of the pool', async () => {
    await using images = connect({ pool: 'images' })
    await images.apply('print', ['a line'])
    expect(await server.logged(({ msg }) => msg === 'a line')).toMatchObject({ pool: 'images' })
    expect(server.log.find(({ msg }) => msg === 'serving')).toMatchObject({
      pools: {
        default: { processes: 1, functions: ['prepare', 'shout', 'who'] },
        images: { processes: 2 },
      },
    })
  })

  describe('and the command line', () => {
    const run = (args: string[], input?: string) => farpool([...args, '--address', server.address], input)
    afterAll(() => {
      delete process.env['FARPOOL_POOL']
    })

    it('takes --pool', async () => {
      expect((await run(['call', 'who'])).stdout).toBe('"text"\n')
      expect((await run(['call', 'who', '--pool', 'images'])).stdout).toBe('"images"\n')
      expect((await run(['map', 'invert', '--pool', 'images'], '0\n1\n')).stdout).toBe('255\n254\n')
      expect((await run(['functions', '--pool', 'images'])).stdout).toMatch(/^invert +1 parameter {2}images\.mjs$/m)
      const { stdout } = await run(['info', '--pool', 'images'])
      expect(stdout).toMatch(/^shared pools: default, images\npool images: open, 2 processes/m)
      expect(
        (await farpool(['__complete', '--', 'call', '-a', server.address, '--pool', 'images', 'inv'])).stdout,
      ).toBe('invert\timages.mjs\n')
    })

    it('takes FARPOOL_POOL', async () => {
      process.env['FARPOOL_POOL'] = 'images'
      expect((await run(['call', 'who'])).stdout).toBe('"images"\n')
      expect((await run(['call', 'who', '--pool', 'default'])).stdout).toBe('"text"\n')
    })

    it('says which pools there are', async () => {
      const { code, stderr } = await run(['call', 'who', '--pool', 'imges'])
      expect([code, stderr]).toEqual([1, 'farpool: no pool "imges"; shared pools: default, images (POOL_NOT_FOUND)\n'])
      expect(await run(['call', 'who', '--pool', ''])).toMatchObject({ code: 2, stderr: expect.stringContaining('""') })
    })
  })
})

describe('the end of a server of two shared pools', () => {
  it('waits for the calls in both', async () => {
    await using server = await serve()
    await using images = new Pool(server.address, { pool: 'images' })
    const [begun, go] = [folder.fresh(), folder.fresh()]
    const call = images.applyAsync('wait', [begun, go])
    await until(() => existsSync(begun), 'it runs')
    server.signal('SIGTERM')
    await server.logged(({ msg }) => msg === 'waiting for calls in flight')
    writeFileSync(go, '')
    expect(await call).toBe('went on')
    expect(await server.exited).toBe(0)
  })
})

describe('the health of a server of two shared pools', () => {
  it('is NOT_SERVING when one of them takes no more calls', async () => {
    await using server = await serve('--allow-terminate')
    const stub = makeStub(server.address)
    const health = async () => (await farpool(['health', '--address', server.address])).stdout
    expect(await health()).toBe('SERVING\n')
    await answer((done) => stub.terminate({ pool: 'images' }, done))
    expect(await health()).toBe('NOT_SERVING\n')
    // The other one still answers its callers.
    await answer((done) => stub.apply(request('who'), done))
    const { failure: why } = await failure((done) => stub.apply({ ...request('who'), pool: 'images' }, done))
    expect(why?.reason).toBe('POOL_CLOSED')
    stub.close()
  })
})

describe('a server with a shared pool that cannot start', () => {
  it.each([
    ['throws', `throw new Error('no model')`, 'Error: no model'],
    ['is no JavaScript', 'export const = 1', 'SyntaxError: '],
  ])('ends, and names the pool: its module %s', async (_, source, reason) => {
    writeFileSync(folder.path('broken.mjs'), source)
    writeFileSync(
      folder.path('broken.yaml'),
      'modules: [./text.mjs]\nprocesses: 1\npools: { images: { modules: [./broken.mjs] } }\n',
    )
    const args = ['--config', folder.path('broken.yaml'), '-l', '127.0.0.1:0', '--log-format', 'pretty']
    const { code, stderr } = await farpool(['serve', ...args])
    const message = `pool images: module ${folder.path('broken.mjs')} cannot be loaded: ${reason}`
    expect([code, stderr]).toEqual([1, expect.stringContaining(`\nfarpool: ${message}`)])
  })
})
