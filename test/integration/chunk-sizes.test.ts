import { writeFileSync } from 'node:fs'
import { LimitError, Pool, partial } from 'farpool'
import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import {
  type IMapResponse,
  type ItemFailure,
  type MapResponse,
  OnError,
} from '../../proto/gen/farpool/v1/pool_service.js'
import { statusToFailure } from '../../wire/failure.js'
import { errorOf, linesOf, waiting } from '../support/calls.js'
import { sharedFarm } from '../support/farm.js'
import { FUNCTIONS } from '../support/server.js'
import { answer, failure, mapRequest, values } from '../support/stub.js'

/** Chunks whose items, or whose results, are together larger than a message: no item is lost for the size of another. */

const MAX = 100_000
const farm = sharedFarm({ args: ['--processes', '1', '--max-message-bytes', String(MAX)] })

let file = ''
beforeEach(() => {
  file = farm.fresh()
})

const text = (length: number) => 'x'.repeat(length)
const lengths = (results: readonly unknown[]) => results.map((result) => (result as string).length)

async function outcomesOf(results: AsyncIterable<unknown>): Promise<unknown[]> {
  const outcomes: unknown[] = []
  for await (const outcome of results) outcomes.push(outcome)
  return outcomes
}

/** What appendAndReturn can return. */
const KINDS = ['text', 'numbers', 'deep', 'instance']

describe.each([
  ['stream', {}, [...KINDS, 'map']],
  ['stream', { processes: 1 }, []],
  ['stream', { encoding: 'json' }, [...KINDS, 'toJSON']],
  ['unary', {}, KINDS],
  ['unary', { processes: 1 }, []],
] as const)('over %s with %o,', (transport, options, kinds) => {
  let pool: Pool
  beforeAll(async () => {
    pool = await farm.open(transport, options)
  })

  it('a map whose results are together too large has them all, and each item runs once', async () => {
    for (const [at, kind] of kinds.entries()) {
      const items = Array.from({ length: 20 }, () => [file, kind, 18_000])
      const results = await pool.starmap('appendAndReturn', items, { chunksize: 20 })
      expect([kind, results.length, linesOf(file)]).toEqual([kind, 20, 20 * (at + 1)])
    }
  })

  it('an item whose result is too large fails alone, and its error names it', async () => {
    const tooLarge = {
      index: 2,
      reason: 'RESULT_TOO_LARGE',
      started: true,
      message: expect.stringMatching(
        /^the result of item 2 is too large: the result has 2000\d\d bytes; the limit is 100000$/,
      ),
    }
    const items = [10, 20, 200_000, 30].map((length) => [file, length])
    const settled = await pool.starmap('appendAndFill', items, { chunksize: 4, settle: true })
    expect(settled).toMatchObject([
      { value: text(10) },
      { value: text(20) },
      { status: 'rejected', reason: tooLarge },
      { value: text(30) },
    ])
    expect(linesOf(file)).toBe(4)
    const error = await errorOf(pool.starmap('appendAndFill', items, { chunksize: 4 }))
    expect(error).toBeInstanceOf(LimitError)
    expect(error).toMatchObject(tooLarge)
    expect(await outcomesOf(pool.imap('textOf', [10, 20, 200_000, 30], { chunksize: 4, settle: true }))).toMatchObject([
      { value: text(10) },
      { value: text(20) },
      { reason: tooLarge },
      { value: text(30) },
    ])
  })

  it('a result that has no room beside the others of its chunk fails alone, and says what to do', async () => {
    const lengths = [45_000, 60_000, 30_000]
    const reason = {
      message: expect.stringMatching(/^the result of item 1 is too large: .*; use a smaller chunksize$/),
    }
    const settled = await pool.map('textOf', lengths, { chunksize: 3, settle: true })
    expect(settled).toMatchObject([{ status: 'fulfilled' }, { reason }, { status: 'fulfilled' }])
    expect((await pool.map('textOf', lengths, { chunksize: 1 })).map((result) => result.length)).toEqual(lengths)
  })

  it('results that cannot be encoded among large ones fail alone', async () => {
    const items = [['x'], ['function'], [text(40_000)], ['function'], ['y']]
    const settled = await pool.starmap('giveBack', items, { chunksize: 5, settle: true })
    const reason = { reason: 'RESULT_ENCODE_FAILED', message: expect.stringMatching(/: value is the function/) }
    expect(settled).toMatchObject([{ value: 'x' }, { reason }, { value: text(40_000) }, { reason }, { value: 'y' }])
  })

  it.each([1, 4])(
    'an item that is too large to be sent fails alone, and its error names it (chunksize %i)',
    async (chunksize) => {
      const tooLarge = {
        index: 1,
        reason: 'PAYLOAD_TOO_LARGE',
        started: false,
        message: expect.stringMatching(/^item 1 is too large: .* 2\d{5} bytes; .* 100000$/),
      }
      const items = ['a', text(200_000), 'c', 'd'].map((line) => [file, line])
      const settled = await pool.starmap('appendLine', items, { chunksize, settle: true })
      expect(settled).toMatchObject([
        { value: 'a' },
        { status: 'rejected', reason: tooLarge },
        { value: 'c' },
        { value: 'd' },
      ])
      expect(linesOf(file)).toBe(3)
      const error = await errorOf(pool.starmap('appendLine', items, { chunksize }))
      expect(error).toBeInstanceOf(LimitError)
      expect(error).toMatchObject(tooLarge)
      const results = pool.imap('identity', ['a', text(200_000), 'c'], { chunksize })
      expect(await results.next()).toEqual({ done: false, value: 'a' })
      expect(await errorOf(results.next())).toMatchObject(tooLarge)
      expect(await results.next()).toEqual({ done: false, value: 'c' })
    },
  )

  it.each([1, 50, undefined])(
    'bound arguments that are too large fail the whole request (chunksize %s)',
    async (chunksize) => {
      const tooLarge = {
        name: 'LimitError',
        reason: 'PAYLOAD_TOO_LARGE',
        index: undefined,
        message: expect.stringMatching(/^the bound arguments and kwargs take 2\d{5,6} bytes; .* 100000$/),
      }
      for (const fn of [partial('identity', [text(200_000)]), partial('identity', [], { of: text(2_000_000) })]) {
        const options = { settle: true, ...(chunksize && { chunksize }) } as const
        expect(await errorOf(pool.map(fn, Array.from({ length: 100 }).fill('a'), options))).toMatchObject(tooLarge)
        const results = pool.imap(fn, ['a', 'b', 'c'], options)
        expect(await errorOf(results.next())).toMatchObject(tooLarge)
        expect((await results.next()).done).toBe(true)
      }
      expect(await pool.map('identity', ['a'])).toEqual(['a'])
    },
  )

  it('a chunk that is too large only as a whole is divided', async () => {
    const items = Array.from({ length: 8 }, (_, at) => [file, text(30_000 + at)])
    expect(lengths(await pool.starmap('appendLine', items, { chunksize: 8 }))).toEqual(
      lengths(items.map(([, line]) => line)),
    )
    expect(linesOf(file)).toBe(8)
    // Also where the client chooses the chunks, and where many small ones share a request.
    const many = Array.from({ length: 300 }, (_, at) => text(1_000 + at))
    expect(await pool.map('identity', many)).toEqual(many)
    expect(await pool.map('identity', many, { chunksize: 1 })).toEqual(many)
  })

  it('`retry` counts the attempts of each item for itself', async () => {
    // The results of the first two fill the chunk, so that the third one runs later, for the first time.
    const [first, second, third] = [farm.fresh(), farm.fresh(), farm.fresh()]
    const items = [
      [first, 2, 10],
      [second, 1, 60_000],
      [third, 2, 20],
    ]
    expect(lengths(await pool.starmap('throwThenFill', items, { chunksize: 3, retry: { times: 1 } }))).toEqual([
      10, 60_000, 20,
    ])
    expect([first, second, third].map(linesOf)).toEqual([2, 1, 2])
  })

  it('a call that is too large leaves the other calls of its client alone', async () => {
    const { result } = await waiting(pool, file)
    const large = pool.map('identity', ['a', text(200_000)], { chunksize: 2, settle: true })
    const alone = errorOf(pool.apply('identity', [text(200_000)]))
    expect(await alone).toMatchObject({ reason: 'PAYLOAD_TOO_LARGE' })
    writeFileSync(`${file}.go`, '')
    expect(await result).toBe('went on')
    expect(await large).toMatchObject([{ value: 'a' }, { reason: { index: 1 } }])
  })
})

describe.each(['stream', 'unary'] as const)('headers that are too long (%s)', (transport) => {
  /** A client whose token is too long, except in its first RPCs. */
  const withLongToken = async (short: number) => {
    const asked = { count: 0 }
    const token = () => (asked.count++ < short ? 'short' : text(20_000))
    return { asked, pool: await farm.open(transport, { token }) }
  }
  const tooLong = {
    name: 'LimitError',
    index: undefined,
    message: expect.stringMatching(/^the headers of the call take 20\d{3} bytes; they may take 16384$/),
    metadata: { of: 'headers', limit: '16384' },
  }

  it('fail a map and an imap as a whole, with one RPC', async () => {
    const mapping = await withLongToken(1)
    const items = Array.from({ length: 100 }, (_, at) => at)
    expect(await errorOf(mapping.pool.map('identity', items, { chunksize: 10, settle: true }))).toMatchObject(tooLong)
    expect(mapping.asked.count).toBe(2)
    const { asked, pool } = await withLongToken(1)
    const results = pool.imap('identity', [1, 2, 3], { settle: true })
    expect(await errorOf(results.next())).toMatchObject(tooLong)
    expect([(await results.next()).done, asked.count]).toEqual([true, 2])
  })

  it('fail a call, which is not sent again', async () => {
    const { asked, pool } = await withLongToken(0)
    expect(await errorOf(pool.apply('identity', [1]))).toMatchObject({ ...tooLong, started: false })
    expect(asked.count).toBe(1)
  })
})

describe('a map without a chunksize', () => {
  it('has chunks of at most 8 MiB, and no more of them than that takes', async () => {
    await using pool = await Pool.local(FUNCTIONS, { processes: 1 })
    const before = (await pool.info()).tasks.submitted
    // A quarter of them has 10 MiB.
    const items = Array.from({ length: 40 }, () => new Uint8Array(2 ** 20))
    expect((await pool.map('identity', items)).length).toBe(40)
    expect((await pool.info()).tasks.submitted - before).toBe(Math.ceil(40 / 7))
  })
})

describe('a plain stub', () => {
  const settle = { onError: OnError.ON_ERROR_SETTLE }
  const map = (chunks: unknown[][], more = {}) =>
    answer<MapResponse>((done) => farm.stub.map(mapRequest('textOf', chunks, more), done))
  /** The lengths of the results, and the failures. */
  const imap = async (chunk: unknown[], more = {}) => {
    const found: [unknown[], unknown[]][] = []
    for await (const response of farm.stub.iMap({ ...mapRequest('textOf', [chunk], more), ordered: false })) {
      for (const { payload, failures } of (response as IMapResponse).outcomes)
        found.push([lengths(values(payload ? [payload] : [])[0]), reasons(failures)])
    }
    return found
  }
  const reasons = (failures: readonly ItemFailure[]) =>
    failures.map(({ item, status }) => [item, status && statusToFailure(status).reason])

  it('gets the results of all items of a chunk, if they fit into a message', async () => {
    const { chunks } = await map([[30_000, 30_000, 30_000]])
    expect(lengths(values(chunks)[0])).toEqual([30_000, 30_000, 30_000])
    expect(await imap([30_000, 30_000, 30_000])).toEqual([[[30_000, 30_000, 30_000], []]])
  })

  it('gets RESULT_TOO_LARGE only for the items whose results do not fit', async () => {
    const { chunks, failures } = await map([[30_000, 200_000, 30_000, 60_000, 30_000]], settle)
    expect([lengths(values(chunks)[0]), reasons(failures)]).toEqual([
      [30_000, 30_000, 30_000],
      [
        [1, 'RESULT_TOO_LARGE'],
        [3, 'RESULT_TOO_LARGE'],
      ],
    ])
    const { failure: why } = await failure((done) => farm.stub.map(mapRequest('textOf', [[10, 200_000]]), done))
    expect(why).toMatchObject({ reason: 'RESULT_TOO_LARGE', metadata: { chunk: '0', item: '1' } })
  })

  it('gets CHUNK_FULL only if it allows partial results: one, for the first item that was not run', async () => {
    const outcomes = await imap([30_000, 30_000, 10, 10, 10], { allowPartial: true })
    expect(outcomes).toEqual([[[30_000, 30_000], [[2, 'CHUNK_FULL']]]])
  })
})
