import { execFile } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { promisify } from 'node:util'
import { type Pool, RemoteError, TimeoutError } from 'farpool'
import { beforeAll, describe, expect, it } from 'vitest'
import { errorOf, linesOf } from '../support/calls.js'
import { sharedFarm } from '../support/farm.js'
import { until } from '../support/server.js'

/** What the API has beside Python's: handles, options for many calls, repeated calls, outcomes, progress. */

const farm = sharedFarm({ args: ['--processes', '2', '--grace', '200'] })
const MIB = 1024 * 1024

/** The warnings of this process that a function makes it emit. */
async function warningsOf(run: () => Promise<unknown>, count: number): Promise<Error[]> {
  const warnings: Error[] = []
  const listen = (warning: Error) => void warnings.push(warning)
  process.on('warning', listen)
  try {
    await run()
    await until(() => warnings.length >= count, 'the warnings are there')
  } finally {
    process.off('warning', listen)
  }
  return warnings
}

describe.each(['local', 'stream', 'unary'] as const)('a call over %s', (transport) => {
  let pool: Pool
  beforeAll(async () => {
    pool = await farm.open(transport)
  })

  it('by a handle: pool.fn.name(...args) is an AsyncResult', async () => {
    const result = pool.fn.add(1, 2)
    expect(await result.get()).toBe(3)
    expect(await pool.fn.greet('Ada', { mark: '?' })).toBe('Hello, Ada?')
    expect(await errorOf(pool.fn.fob())).toMatchObject({ name: 'UnknownFunctionError' })
    expect(await errorOf(pool.fn.add(() => 1))).toMatchObject({ name: 'EncodingError' })
    expect(await pool.fn).toBe(pool.fn)
    await expect(pool.fn.add(1).get(-1)).rejects.toMatchObject({ name: 'BadRequestError' })
  })

  it('by a view with options, which the options of a call change', async () => {
    const hasty = pool.with({ timeout: 20 })
    expect(await errorOf(hasty.fn.never())).toBeInstanceOf(TimeoutError)
    expect(await errorOf(hasty.apply('never'))).toBeInstanceOf(TimeoutError)
    expect(await errorOf(hasty.map('never', [1]))).toBeInstanceOf(TimeoutError)
    expect(await hasty.with({ timeout: 60_000 }).fn.add(1, 2)).toBe(3)
    expect(await hasty.apply('add', [1, 2], undefined, { timeout: 60_000 })).toBe(3)
    const stopped = AbortSignal.abort(new Error('enough'))
    expect(await errorOf(pool.with({ signal: stopped }).fn.add(1, 2))).toMatchObject({ reason: 'CANCELLED' })
  })

  it('has a result with catch and finally, as a promise', async () => {
    let ended = 0
    expect(await pool.fn.add(1, 2).finally(() => ended++)).toBe(3)
    expect(await pool.fn.throwOdd(1).catch((error: unknown) => error)).toBeInstanceOf(RemoteError)
    expect(await Promise.allSettled([pool.fn.throwOdd(1).finally(() => ended++)])).toMatchObject([
      { status: 'rejected' },
    ])
    expect(ended).toBe(2)
  })

  it('that fails is made again with `retry`: so many times, after these errors', async () => {
    const file = farm.fresh()
    expect(await errorOf(pool.with({ retry: { times: 2 } }).fn.appendAndThrow(file))).toBeInstanceOf(RemoteError)
    expect(linesOf(file)).toBe(3)
    expect(await pool.with({ retry: { times: 5, delay: 1, backoff: 2 } }).fn.appendAndThrow(file, 5)).toBe(5)
    const seen: unknown[] = []
    const on = (error: unknown) => seen.push(error) < 2
    const other = farm.fresh()
    await errorOf(pool.apply('appendAndThrow', [other], undefined, { retry: { times: 9, on } }))
    expect([linesOf(other), seen.length]).toEqual([2, 2])
    expect(seen[0]).toBeInstanceOf(RemoteError)
  })

  it('waits no longer for another attempt than until its timeout, or until it is cancelled', async () => {
    const file = farm.fresh()
    const patient = pool.with({ retry: { times: 9, delay: 600_000 } })
    expect(await errorOf(patient.apply('appendAndThrow', [file], undefined, { timeout: 60_000 }))).toBeInstanceOf(
      RemoteError,
    )
    const waits = patient.fn.appendAndThrow(file)
    await until(() => linesOf(file) === 2, 'the first attempt has begun')
    waits.cancel()
    expect(await errorOf(waits)).toMatchObject({ reason: 'CANCELLED' })
  })

  it('of a map makes only the items again that failed', async () => {
    const file = farm.fresh()
    const items = [0, 6, 0, 7, 0].map((lines) => [file, lines])
    expect(await pool.starmap('appendAndThrow', items, { chunksize: 5, retry: { times: 5 } })).toEqual([0, 6, 0, 7, 0])
    expect(linesOf(file)).toBe(7)
    expect(await errorOf(pool.map('appendAndThrow', [file], { retry: { times: 1 } }))).toMatchObject({ index: 0 })
    const [, failed] = await pool.map('throwOdd', [0, 1], { settle: true, retry: { times: 1 } })
    expect(failed).toMatchObject({ status: 'rejected', reason: { index: 1 } })
    const results: unknown[] = []
    const other = farm.fresh()
    for await (const result of pool.imap('appendAndThrow', [other, other], { retry: { times: 2 }, settle: true }))
      results.push(result)
    expect(results).toMatchObject([
      { index: 0, status: 'rejected' },
      { index: 1, status: 'rejected' },
    ])
    expect(linesOf(other)).toBe(6)
  })

  it.each(['imap', 'imapUnordered'] as const)('of %s with `settle` yields an outcome for each item', async (imap) => {
    const outcomes: { index: number }[] = []
    const items = [0, 1, () => 1, 3, 4]
    for await (const outcome of pool[imap]('throwOdd', items, { settle: true, chunksize: 3 })) outcomes.push(outcome)
    expect(outcomes.sort((a, b) => a.index - b.index)).toMatchObject([
      { index: 0, status: 'fulfilled', value: 0 },
      { index: 1, status: 'rejected', reason: { name: 'RemoteError', index: 1 } },
      { index: 2, status: 'rejected', reason: { name: 'EncodingError' } },
      { index: 3, status: 'rejected', reason: { name: 'RemoteError', index: 3 } },
      { index: 4, status: 'fulfilled', value: 4 },
    ])
  })

  it('of imap has a `timeout` for each chunk, and goes on behind it', async () => {
    const results = pool.imap('neverOdd', [0, 1, 2], { timeout: 300 })
    expect(await results.next()).toEqual({ done: false, value: 0 })
    expect(await errorOf(results.next())).toBeInstanceOf(TimeoutError)
    expect(await results.next()).toEqual({ done: false, value: 2 })
    expect(await results.next()).toEqual({ done: true, value: undefined })
  })

  it('tells its progress: map, imap', async () => {
    const seen: unknown[] = []
    const onProgress = (progress: { done: number; total: number | undefined }) =>
      seen.push([progress.done, progress.total])
    await pool.map('square', [1, 2, 3, 4], { chunksize: 2, onProgress })
    for await (const _ of pool.imap('square', [1, 2], { onProgress }));
    function* some() {
      yield 1
    }
    for await (const _ of pool.imap('square', some(), { onProgress }));
    expect(seen).toEqual([
      [2, 4],
      [4, 4],
      [1, 2],
      [2, 2],
      [1, 1],
    ])
  })

  it('with an item that cannot be encoded fails that item alone', async () => {
    const items = [1, Symbol('s'), 3]
    expect(await pool.map('square', items, { settle: true })).toMatchObject([
      { status: 'fulfilled', value: 1 },
      {
        status: 'rejected',
        reason: { name: 'EncodingError', message: expect.stringMatching(/^item 1 cannot be sent/) },
      },
      { status: 'fulfilled', value: 9 },
    ])
    expect(await errorOf(pool.map('square', items))).toMatchObject({
      message: expect.stringMatching(/^item 1 cannot be sent/),
    })
    const results = pool.imap('square', items, { chunksize: 3 })
    expect(await results.next()).toEqual({ done: false, value: 1 })
    expect(await errorOf(results.next())).toMatchObject({ name: 'EncodingError' })
    expect(await results.next()).toEqual({ done: false, value: 9 })
  })

  it('with an item that only an array cannot hold fails that item alone', async () => {
    const json = await farm.open(transport, { encoding: 'json' })
    const outcomes: unknown[] = []
    for await (const outcome of json.imap('identity', [1, undefined, 3], { chunksize: 3, settle: true }))
      outcomes.push(outcome)
    const expected = [{ status: 'fulfilled', value: 1 }, { status: 'rejected' }, { status: 'fulfilled', value: 3 }]
    expect(outcomes).toMatchObject(expected)
    expect(await json.map('identity', [1, undefined, 3], { settle: true })).toMatchObject(expected)
  })

  it('of a map with `failFast` fails with the error of the item, also in a large chunk', async () => {
    const error = await errorOf(pool.map('throwOdd', [0, 2, 1, 4, 6], { chunksize: 5, failFast: true }))
    expect(error).toMatchObject({ name: 'RemoteError', index: 2 })
    const file = farm.fresh()
    const items = [0, 3, 0].map((lines) => [file, lines])
    const retry = { times: 5 }
    expect(await pool.starmap('appendAndThrow', items, { chunksize: 3, failFast: true, retry })).toEqual([0, 3, 0])
  })

  it('of imap may have a string as its input, as in Python', async () => {
    const letters: unknown[] = []
    for await (const letter of pool.imap('identity', 'abc')) letters.push(letter)
    expect(letters).toEqual(['a', 'b', 'c'])
  })

  it('of a map whose results are large is cut by their bytes, not only by their number', async () => {
    const file = farm.fresh()
    const sizes = Array.from({ length: 90 }, (_, item) => [file, MIB + item])
    const results = await pool.starmap('appendAndFill', sizes, { chunksize: 90 })
    expect(results.map((text) => text.length)).toEqual(sizes.map(([, size]) => size))
    expect(linesOf(file)).toBe(90)
  })

  it('reports a callback that throws or rejects as a warning, and goes on', async () => {
    const throws = () => {
      throw new TypeError('a faulty callback')
    }
    const rejects = async () => throws()
    const throwsNothing = () => {
      throw Object.create(null)
    }
    const warnings = await warningsOf(async () => {
      await pool.applyAsync('add', [1], undefined, { callback: throws })
      await pool.applyAsync('add', [1], undefined, { callback: rejects })
      await errorOf(pool.applyAsync('throwOdd', [1], undefined, { errorCallback: rejects }))
      await pool.map('add', [1], { onProgress: rejects })
      await pool.applyAsync('add', [1], undefined, { callback: throwsNothing })
    }, 5)
    expect(warnings.map(({ name, message }) => [name, message])).toEqual([
      ...Array(4).fill(['FarpoolCallbackError', 'a faulty callback']),
      ['FarpoolCallbackError', 'a value that cannot be printed was thrown'],
    ])
    expect(warnings[0]?.stack).toContain('calls.test.ts')
  })
})

describe('a chunk', () => {
  it('of very many items that cannot be encoded fails with the error of the first', async () => {
    const items = Array.from({ length: 150_000 }, () => Symbol('s'))
    const error = await errorOf(farm.pool.map('square', items, { chunksize: items.length }))
    expect(error).toMatchObject({ name: 'EncodingError', message: expect.stringMatching(/^item 0 cannot be sent/) })
  })
})

describe('a result', () => {
  it('that failed and that nobody has looked at becomes a warning when the program ends', async () => {
    const script = `
      const pool = await Pool.local(${JSON.stringify(farm.path('throws.mjs'))}, { processes: 1 })
      pool.fn.oops()
      pool.fn.oops()
      pool.fn.oops().catch(() => {})
      pool.applyAsync('oops', [], undefined, { errorCallback() {} })
      const seen = pool.fn.oops()
      await seen.wait()
      await pool.close()
      await pool.join()
    `
    writeFileSync(farm.path('throws.mjs'), `export const oops = () => { throw new Error('not seen\\x1b[2J') }`)
    const client = new URL('../../dist/client/index.js', import.meta.url).href
    const code = `import { Pool } from ${JSON.stringify(client)}\n${script}`
    const { stderr } = await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', code])
    expect(stderr).toMatch(
      /FarpoolUnseenError: 2 calls failed and nobody looked at their results; the first: .*not seen\\u001b\[2J/,
    )
    expect(stderr).not.toContain('\x1b')
  })
})
