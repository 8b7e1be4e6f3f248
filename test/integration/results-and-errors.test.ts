import { EncodingError, LimitError, Pool, RemoteError } from 'farpool'
import { afterAll, describe, expect, it } from 'vitest'
import { errorOf } from '../support/calls.js'
import { sharedFarm, startFarm } from '../support/farm.js'

describe('a call', () => {
  const farm = sharedFarm()
  afterAll(async () => {
    // The server still answers after every test.
    expect(await farm.pool.apply('add', [1, 2])).toBe(3)
  })

  it.each([
    ['string', 'string', 'a string'],
    ['null', 'null', 'null'],
    ['undefined', 'undefined', 'undefined'],
    ['surrogate', 'Error', 'lone \ufffd surrogate'],
    ['hostile', 'unknown', 'an object whose properties throw when they are read'],
  ])('fails with a RemoteError if its function throws: %s', async (what, type, message) => {
    const error = await errorOf(farm.pool.apply('throwIt', [what]))
    expect(error).toBeInstanceOf(RemoteError)
    expect(error).toMatchObject({ type, message, reason: 'FUNCTION_ERROR', code: 'UNKNOWN' })
  })

  it('fails with the chain of causes of a thrown Error, and the stack of each', async () => {
    const error = (await errorOf(farm.pool.apply('throwIt', ['cause']))) as RemoteError
    expect(error.message).toBe('outer')
    const cause = error.cause as Error
    expect(cause).toMatchObject({
      name: 'TypeError',
      message: 'outer',
      cause: { message: 'middle', cause: { name: 'RangeError', message: 'inner' } },
    })
    expect(cause.stack).toMatch(/^TypeError: outer\n\s+at throwIt \(.*functions\.mjs:\d+/)
    const inner = (cause.cause as Error).cause as Error
    expect(inner.stack).toContain('functions.mjs')
  })

  it('fails with a shortened message if the message has 1 MB, also in a map', async () => {
    for (const failing of [farm.pool.apply('throwIt', ['large']), farm.pool.map('throwIt', ['large'])]) {
      const error = (await errorOf(failing)) as RemoteError
      expect(error.message).toMatch(/^x{100,}…$/)
      expect(error.reason).toBe('FUNCTION_ERROR')
    }
  })

  it('fails with the status code of a thrown Error, except UNAVAILABLE, after which clients try again', async () => {
    expect(await errorOf(farm.pool.apply('throwIt', ['code']))).toMatchObject({
      code: 'NOT_FOUND',
      reason: 'FUNCTION_ERROR',
    })
    expect(await errorOf(farm.pool.apply('throwIt', ['unavailable']))).toMatchObject({
      code: 'UNKNOWN',
      reason: 'FUNCTION_ERROR',
    })
  })

  it('fails if its function returns a promise that rejects', async () => {
    expect(await errorOf(farm.pool.apply('giveBack', ['rejected']))).toMatchObject({
      name: 'RemoteError',
      message: 'rejected',
    })
  })

  it.each([
    ['function', /the function/],
    ['symbol', /Symbol\(s\)/],
    ['cycle', /cycl/],
  ])('fails with an EncodingError if its function returns a %s', async (what, message) => {
    const error = (await errorOf(farm.pool.apply('giveBack', [what]))) as Error
    expect(error).toBeInstanceOf(EncodingError)
    expect(error.message).toMatch(message)
  })

  it('has a result of 10 MB', async () => {
    const value: Uint8Array = await farm.pool.apply('giveBack', ['10MB'])
    expect(value).toBeInstanceOf(Uint8Array)
    expect(Buffer.compare(value, new Uint8Array(10_000_000).fill(7))).toBe(0)
  })

  it('fails in the client if an argument cannot be sent, and names its place', async () => {
    const error = (await errorOf(farm.pool.apply('add', [1, { deep: [() => 1] }]))) as Error
    expect(error).toBeInstanceOf(EncodingError)
    expect(error.message).toMatch(/^argument 2 cannot be sent: .*deep\[0\]/)
    const seen: unknown[] = []
    const results = farm.pool.imap('identity', [1, Symbol('s'), 3])
    for (;;) {
      const step = await results.next().catch((failure: unknown) => ({ done: false, value: failure }))
      if (step.done) break
      seen.push(step.value)
    }
    expect(seen).toMatchObject([1, { name: 'EncodingError' }, 3])
  })

  it.each([
    ['args', () => farm.pool.apply('add', 'ab' as never)],
    ['input', () => farm.pool.map('add', 5 as never)],
    ['function', () => Reflect.apply(farm.pool.apply, farm.pool, [undefined])],
    ['timeout', () => farm.pool.apply('add', [1], undefined, { timeout: -1 })],
    ['timeout', () => farm.pool.apply('add', [1], undefined, { timeout: Number.NaN })],
    ['retries', () => farm.pool.apply('add', [1], undefined, { retries: 0.5 })],
  ])('fails with a BadRequestError that names a wrong option: %s', async (what, call) => {
    const error = (await errorOf(call())) as Error
    expect(error).toMatchObject({ name: 'BadRequestError', reason: 'BAD_REQUEST' })
    expect(error.message).toContain(what)
  })

  it('is null over JSON where a function has none, also in a map', async () => {
    const pool = await farm.open('stream', { encoding: 'json' })
    expect(await pool.apply('giveBack', ['undefined'])).toBeNull()
    expect(await pool.map('giveBack', ['undefined', 1, 'undefined'], { chunksize: 3 })).toEqual([null, 1, null])
  })

  it('may have a timeout above 24.8 days, which no timer can hold', async () => {
    expect(await farm.pool.apply('add', [1, 2], undefined, { timeout: 2 ** 40 })).toBe(3)
    expect(await farm.pool.applyAsync('add', [1, 2]).get(2 ** 40)).toBe(3)
  })
})

describe('a payload above --max-message-bytes', () => {
  it('fails its call, as a request and as a result, and the server goes on', async () => {
    await using farm = await startFarm({ args: ['--processes', '1', '--max-message-bytes', '100000'] })
    const { pool } = farm
    for (const bytes of [150_000, 5_000_000]) {
      const sent = await errorOf(pool.apply('identity', ['x'.repeat(bytes)]))
      expect(sent).toBeInstanceOf(LimitError)
      expect(sent).toMatchObject({ code: 'RESOURCE_EXHAUSTED', reason: 'PAYLOAD_TOO_LARGE' })
    }
    const returned = await errorOf(pool.apply('giveBack', ['10MB']))
    expect(returned).toBeInstanceOf(LimitError)
    expect(returned).toMatchObject({ code: 'RESOURCE_EXHAUSTED', reason: 'RESULT_TOO_LARGE', started: true })
    expect(returned).toMatchObject({ message: expect.stringMatching(/has 100000\d\d bytes; the limit is 100000$/) })
    expect(await pool.map('giveBack', ['10MB', 'x'], { chunksize: 1, settle: true })).toMatchObject([
      { status: 'rejected', reason: { reason: 'RESULT_TOO_LARGE' } },
      { status: 'fulfilled', value: 'x' },
    ])
    expect(await pool.apply('add', [1, 2])).toBe(3)
  })
})

describe('an address without a server', () => {
  it('fails calls with UnavailableError', async () => {
    await using pool = new Pool('127.0.0.1:1')
    expect(await errorOf(pool.apply('add', [1]))).toMatchObject({
      name: 'UnavailableError',
      reason: 'CONNECTION_FAILED',
    })
    await using own = new Pool('127.0.0.1:1', { processes: 1 })
    expect(await errorOf(own.apply('add', [1]))).toMatchObject({ name: 'UnavailableError' })
  })
})
