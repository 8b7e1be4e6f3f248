import { readFileSync, writeFileSync } from 'node:fs'
import { Pool, TimeoutError } from 'farpool'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { errorOf, linesOf, waiting } from '../support/calls.js'
import { farpool, ServerProcess, temporaryFolder, until } from '../support/server.js'

/** How long a call may wait and run, how often, and how it is given up: what functions and callers say of it. */

const folder = temporaryFolder()
let server: ServerProcess
let pool: Pool
beforeAll(async () => {
  server = await ServerProcess.start(['--processes', '2', '--grace', '50'])
  pool = new Pool(server.address)
})
afterAll(async () => {
  await pool.terminate()
  await server[Symbol.asyncDispose]()
  folder.remove()
})

let file = ''
beforeEach(() => {
  file = folder.fresh()
})

describe('what a module says about a function', () => {
  it('retries: it runs again, unless the call says otherwise', async () => {
    expect(await pool.apply('twiceRetried', [3])).toBe(3)
    expect((await errorOf(pool.apply('twiceRetried', [3], undefined, { retries: 1 }))).metadata['attempt']).toBe('2')
  })

  it('runTimeout: it ends, also in an endless loop', async () => {
    const error = await errorOf(pool.apply('atMost100ms'))
    expect(error).toBeInstanceOf(TimeoutError)
    expect([error.started, error.metadata]).toEqual([true, { phase: 'running', limit_ms: '100' }])
  })

  it("kill 'never': its process lives on until it ends, and takes no other task meanwhile", async () => {
    await using one = new Pool(server.address, { processes: 1 })
    const pid = await one.apply('pid')
    expect((await errorOf(one.apply('neverKilled', [file, 500], undefined, { runTimeout: 20 }))).reason).toBe(
      'TASK_TIMEOUT',
    )
    expect(await one.apply('pid')).toBe(pid)
    expect(readFileSync(file, 'utf8')).toBe(`${pid}\n`)
  })

  it('is listed', async () => {
    const found = (await pool.functions()).filter(({ name }) => ['twiceRetried', 'neverKilled', 'add'].includes(name))
    expect(found).toMatchObject([
      { name: 'add', retries: 0, neverKilled: false },
      { name: 'neverKilled', neverKilled: true },
      { name: 'twiceRetried', retries: 2 },
    ])
  })

  it.each([
    ['{ retries: -1 }', 'its retries are -1; they must be an integer, 0 or more'],
    ['{ runTimeout: 1.5 }', 'its runTimeout is 1.5; it must be a whole number of milliseconds'],
    ["{ kill: 'now' }", `its kill is "now"; it must be 'after-grace' or 'never'`],
    ['{ retrys: 1 }', 'it has the unknown option retrys; the options are retries, runTimeout and kill'],
    ['1', 'its options are 1; they must be an object'],
  ])('is checked when the server starts: %s', async (options, message) => {
    const module = `${folder.fresh()}.mjs`
    writeFileSync(module, `export const f = Object.assign(() => 1, { farpool: ${options} })\n`)
    const { code, stderr } = await farpool(['serve', module, '--listen', '127.0.0.1:0'])
    expect([code, stderr]).toEqual([1, expect.stringContaining(message)])
  })
})

describe('a call', () => {
  it('has a time to wait and a time to run, each for itself', async () => {
    await using one = new Pool(server.address, { processes: 1 })
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
    'is cancelled by its result: waiting, running, in a loop (%s)',
    async (transport) => {
      await using one = new Pool(server.address, { processes: 1, transport })
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

describe('a chunk whose items become slow', () => {
  it('hears between two of them that it was given up, and its worker lives', async () => {
    await using patient = await ServerProcess.start(['--processes', '1', '--grace', '3000'])
    await using one = new Pool(patient.address)
    const pid = await one.apply('pid')
    const items = [...Array(1_500).fill(''), ...Array(500).fill(file)]
    const result = one.mapAsync('slowWith', items, { chunksize: items.length })
    await until(() => linesOf(file) > 0, 'it has come to the slow ones')
    result.cancel()
    expect(await one.apply('pid')).toBe(pid)
    expect(linesOf(file)).toBeLessThan(500)
  })
})

describe('times that no timer can hold', () => {
  it('are long: nothing is killed at once, also while the server drains', async () => {
    const times = ['--grace', '--drain', '--run-timeout', '--start-timeout'].flatMap((name) => [name, '3000000000'])
    await using patient = await ServerProcess.start(['--processes', '1', ...times])
    await using one = new Pool(patient.address)
    const pid = await one.apply('pid')
    const given = one.applyAsync('busyUntil', [`${file}.go`])
    await until(async () => (await one.info()).running === 1, 'it runs')
    given.cancel()
    const result = one.applyAsync('waitFor', [file, `${file}.end`, 'went on'])
    writeFileSync(`${file}.go`, '')
    await until(() => linesOf(file) === 1, 'the next has begun')
    expect(Number(readFileSync(file, 'utf8'))).toBe(pid)
    patient.signal('SIGTERM')
    await patient.logged(({ msg }) => msg === 'waiting for calls in flight')
    writeFileSync(`${file}.end`, '')
    expect(await result).toBe('went on')
    expect(await patient.exited).toBe(0)
    expect(patient.log.filter(({ msg }) => /Overflow|still in flight/.test(msg))).toEqual([])
  })
})

describe('a map of many chunks', () => {
  it('that is given up, ends once, however many there are', async () => {
    await using many = new Pool(server.address)
    const items = Array.from({ length: 50_000 }, (_, at) => at)
    const result = many.mapAsync('square', items, { chunksize: 1 })
    await many.apply('identity', [0])
    await many.terminate()
    await expect(result.get()).rejects.toMatchObject({
      name: expect.stringMatching(/^(PoolTerminated|Cancelled)Error$/),
    })
  })
})
