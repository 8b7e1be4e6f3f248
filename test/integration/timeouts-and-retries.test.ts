import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { Pool, TimeoutError } from 'farpool'
import { beforeEach, describe, expect, it } from 'vitest'
import { errorOf, linesOf, waiting } from '../support/calls.js'
import { sharedFarm } from '../support/farm.js'
import { FUNCTIONS, until } from '../support/server.js'

/** Timeouts, retries and cancellation, as options of a function in its module and of a call. */

const farm = sharedFarm({ args: ['--processes', '2', '--grace', '50'] })

let file = ''
beforeEach(() => {
  file = farm.fresh()
})

describe('an option of a function in its module', () => {
  it('retries: the function runs again after a crash, unless the call has its own retries', async () => {
    expect(await farm.pool.apply('twiceRetried', [3])).toBe(3)
    expect((await errorOf(farm.pool.apply('twiceRetried', [3], undefined, { retries: 1 }))).metadata['attempt']).toBe(
      '2',
    )
  })

  it('runTimeout: the function ends, even in an endless loop', async () => {
    const error = await errorOf(farm.pool.apply('atMost100ms'))
    expect(error).toBeInstanceOf(TimeoutError)
    expect([error.started, error.metadata]).toEqual([true, { phase: 'running', limit_ms: '100' }])
  })

  it("kill 'never': its process lives until the function ends, and takes no other task before", async () => {
    await using one = new Pool(farm.address, { processes: 1 })
    const pid = await one.apply('pid')
    expect((await errorOf(one.apply('neverKilled', [file, 500], undefined, { runTimeout: 20 }))).reason).toBe(
      'TASK_TIMEOUT',
    )
    expect(await one.apply('pid')).toBe(pid)
    expect(readFileSync(file, 'utf8')).toBe(`${pid}\n`)
  })

  it('is part of the list of functions', async () => {
    const found = (await farm.pool.functions()).filter(({ name }) =>
      ['twiceRetried', 'neverKilled', 'add'].includes(name),
    )
    expect(found).toMatchObject([
      { name: 'add', retries: 0, neverKilled: false },
      { name: 'neverKilled', neverKilled: true },
      { name: 'twiceRetried', retries: 2 },
    ])
  })
})

describe('a call', () => {
  it('has a queue timeout and a run timeout', async () => {
    await using one = new Pool(farm.address, { processes: 1 })
    const { result } = await waiting(one, file)
    const queued = await errorOf(one.apply('add', [1, 1], undefined, { queueTimeout: 30, runTimeout: 10_000 }))
    expect([queued.reason, queued.started, queued.metadata['phase']]).toEqual(['TASK_TIMEOUT', false, 'queued'])
    const behind = one.applyAsync('spin', [], undefined, { queueTimeout: 60_000, runTimeout: 30 })
    writeFileSync(`${file}.go`, '')
    expect(await result).toBe('went on')
    const ran = await errorOf(behind.get())
    expect([ran.reason, ran.started, ran.metadata['phase']]).toEqual(['TASK_TIMEOUT', true, 'running'])
  })

  it.each(['stream', 'unary'] as const)(
    'can be cancelled while it waits, runs, or is in an endless loop (%s)',
    async (transport) => {
      await using one = new Pool(farm.address, { processes: 1, transport })
      const spinning = one.applyAsync('spin')
      const queued = one.applyAsync('add', [1, 1])
      const mapped = one.mapAsync('square', [1, 2, 3])
      await until(async () => (await one.info()).running === 1, 'it runs')
      for (const result of [queued, mapped, spinning]) {
        expect([result.ready(), result.cancel()]).toEqual([false, true])
        expect((await errorOf(result.get() as Promise<unknown>)).reason).toBe('CANCELLED')
        expect(result.cancel()).toBe(false)
      }
      expect(await one.apply('add', [1, 2])).toBe(3)
    },
  )
})

describe.each(['local', 'stream', 'unary'] as const)('the timeout of an imap over %s', (transport) => {
  const open = () =>
    transport === 'local'
      ? Pool.local(FUNCTIONS, { processes: 1 })
      : new Pool(farm.address, { processes: 1, transport })

  it('is for each item: it does not pass while others of the same imap run', async () => {
    await using one = await open()
    await one.apply('add', [1, 1])
    // Together they take twice as long.
    const items = Array.from({ length: 20 }, () => 40)
    const outcomes: unknown[] = []
    for await (const { status } of one.imap('busyFor', items, { timeout: 400, settle: true })) outcomes.push(status)
    expect(outcomes).toEqual(items.map(() => 'fulfilled'))
  })

  it('does not begin anew when an item is made again', async () => {
    await using one = await open()
    const retry = { times: 300, delay: 20 }
    const error = await errorOf(one.imap('appendAndThrow', [file], { timeout: 400, retry }).next())
    expect(error).toMatchObject({ name: expect.stringMatching(/^(Remote|Timeout)Error$/) })
    expect(linesOf(file)).toBeLessThan(100)
  })
})

describe('a map', () => {
  it('makes no item again whose pause would end after its timeout', async () => {
    const retry = { times: 1, delay: 600_000 }
    expect(await errorOf(farm.pool.map('appendAndThrow', [file], { timeout: 60_000, retry }))).toMatchObject({
      name: 'RemoteError',
      index: 0,
    })
  })

  it('has a timeout also while its server does not answer', async () => {
    const silent = createServer().listen(0, '127.0.0.1')
    await once(silent, 'listening')
    const pool = new Pool(`127.0.0.1:${(silent.address() as AddressInfo).port}`)
    expect(await errorOf(pool.map('add', [1], { timeout: 50 }))).toMatchObject({
      name: 'TimeoutError',
      started: false,
      metadata: { phase: 'queued', limit_ms: '50' },
    })
    await pool.terminate()
    silent.close()
  })
})

describe('a map of 50,000 chunks', () => {
  it('fails once when its pool is terminated', async () => {
    await using many = new Pool(farm.address)
    const items = Array.from({ length: 50_000 }, (_, at) => at)
    const result = many.mapAsync('square', items, { chunksize: 1 })
    await many.apply('identity', [0])
    await many.terminate()
    await expect(result.get()).rejects.toMatchObject({
      name: expect.stringMatching(/^(PoolTerminated|Cancelled)Error$/),
    })
  })
})
