import { readFileSync } from 'node:fs'
import { AsyncResult, type Pool, partial } from 'farpool'
import { beforeAll, describe, expect, it } from 'vitest'
import { sharedFarm } from '../support/farm.js'

const farm = sharedFarm({ args: ['--processes', '2'] })

/** Each method of Python's Pool, with both encodings and both transports. */
describe.each([
  { encoding: 'cbor', transport: 'local' },
  { encoding: 'cbor', transport: 'stream' },
  { encoding: 'json', transport: 'stream' },
  { encoding: 'cbor', transport: 'unary' },
] as const)('multiprocessing.Pool over $encoding, $transport', ({ encoding, transport }) => {
  let pool: Pool
  beforeAll(async () => {
    pool = await farm.open(transport, { encoding })
  })

  it('Pool(processes, initializer, initargs, maxtasksperchild)', async () => {
    const file = farm.path(`initialized-${encoding}-${transport}`)
    await using own = await farm.open(transport, {
      processes: 2,
      initializer: 'logInitialization',
      initargs: [file],
      maxtasksperchild: 2,
      encoding,
    })
    const pids = await own.map('pid', [1, 2, 3, 4, 5], { chunksize: 1 })
    for (const pid of pids) expect(pids.filter((other) => other === pid).length).toBeLessThanOrEqual(2)
    expect(new Set(pids).size).toBeGreaterThanOrEqual(3)
    await own.close()
    await own.join()
    const initialized = readFileSync(file, 'utf8').trim().split('\n')
    expect(new Set(initialized).size).toBe(initialized.length)
    for (const pid of pids) expect(initialized).toContain(String(pid))
  })

  it('initargs reach the initializer in every process', async () => {
    await using own = await farm.open(transport, {
      processes: 2,
      initializer: 'initialize',
      initargs: [1, { deep: ['x'] }],
      encoding,
    })
    expect(await own.map('initializedWith', [0, 0, 0, 0], { chunksize: 1 })).toEqual(
      Array(4).fill([1, { deep: ['x'] }]),
    )
    expect(await pool.apply('initializedWith')).toBe(null)
  })

  it('apply', async () => {
    expect(await pool.apply('add', [1, 2])).toBe(3)
    expect(await pool.apply('add', [1])).toBe(1)
    expect(await pool.apply('collect')).toEqual([])
  })

  it('apply with kwds: they are one last argument, if there are any', async () => {
    expect(await pool.apply('greet', ['Ada'], { greeting: 'Good day', mark: '.' })).toBe('Good day, Ada.')
    expect(await pool.apply('collect', [1, 2], { e: 3 })).toEqual([1, 2, { e: 3 }])
    expect(await pool.apply('collect', [1, 2], {})).toEqual([1, 2])
  })

  it('apply_async, with kwds and callbacks', async () => {
    const seen: unknown[] = []
    const result = pool.applyAsync('greet', ['Ada'], { mark: '?' }, { callback: (value) => seen.push(value) })
    expect(result).toBeInstanceOf(AsyncResult)
    expect(await result.get()).toBe('Hello, Ada?')
    expect(seen).toEqual(['Hello, Ada?'])
  })

  it('map, map_async, with chunksize', async () => {
    const items = Array.from({ length: 1000 }, (_, i) => i)
    const squares = items.map((i) => i * i)
    expect(await pool.map('square', items)).toEqual(squares)
    expect(await pool.map('square', items, { chunksize: 7 })).toEqual(squares)
    expect(await pool.map('square', new Set(items), { chunksize: 5000 })).toEqual(squares)
    expect(await pool.mapAsync('square', items).get()).toEqual(squares)
  })

  it('imap, imap_unordered, with chunksize and next(timeout)', async () => {
    const seen: unknown[] = []
    for await (const value of pool.imap('square', [1, 2, 3, 4, 5], { chunksize: 2 })) seen.push(value)
    expect(seen).toEqual([1, 4, 9, 16, 25])
    const results = pool.imapUnordered('square', [3])
    expect(await results.next(30_000)).toEqual({ done: false, value: 9 })
    expect(await results.next(30_000)).toEqual({ done: true, value: undefined })
  })

  it('starmap, starmap_async', async () => {
    expect(
      await pool.starmap('add', [
        [1, 2],
        [3, 4],
      ]),
    ).toEqual([3, 7])
    expect(await pool.starmapAsync('collect', [[], [1], [1, 2]], { chunksize: 2 }).get()).toEqual([[], [1], [1, 2]])
  })

  it('functools.partial: bound arguments come first, bound kwargs last', async () => {
    expect(await pool.map(partial('power', [2]), [1, 2, 3])).toEqual([2, 4, 8])
    expect(await pool.apply(partial('collect', ['a'], { x: 1, y: 1 }), ['b'], { y: 2 })).toEqual([
      'a',
      'b',
      { x: 1, y: 2 },
    ])
    expect(await pool.starmap(partial(partial('collect', [1]), [2]), [[3], [4]])).toEqual([
      [1, 2, 3],
      [1, 2, 4],
    ])
    const seen: unknown[] = []
    for await (const value of pool.imap(partial('collect', ['x'.repeat(3)], { k: 1 }), [1, 2])) seen.push(value)
    expect(seen).toEqual([
      ['xxx', 1, { k: 1 }],
      ['xxx', 2, { k: 1 }],
    ])
  })

  it('close, join', async () => {
    const own = await farm.open(transport, { processes: 1, encoding })
    const results = [own.applyAsync('add', [1, 2]), own.mapAsync('square', [1, 2])]
    await own.close()
    await own.join()
    expect(results.map((result) => result.ready())).toEqual([true, true])
    expect(await results[0]).toBe(3)
  })

  it('terminate', async () => {
    const own = await farm.open(transport, { processes: 1, encoding })
    const result = own.applyAsync('never')
    await own.terminate()
    await own.join()
    expect(result.ready()).toBe(true)
    expect(result.successful()).toBe(false)
  })

  it('AsyncResult: get(timeout), wait(timeout), ready, successful', async () => {
    const result = pool.mapAsync('square', [1, 2, 3])
    await result.wait(30_000)
    expect(result.ready()).toBe(true)
    expect(result.successful()).toBe(true)
    expect(await result.get(1)).toEqual([1, 4, 9])
  })

  it('100 calls at once have each their own result', async () => {
    const results = await Promise.all(Array.from({ length: 100 }, (_, i) => pool.apply('collect', [i])))
    expect(results).toEqual(Array.from({ length: 100 }, (_, i) => [i]))
  })

  it('a map larger than one request has all its results', async () => {
    const items = Array.from({ length: 40 }, (_, i) => `${i}:`.padEnd(300_000, 'x'))
    const results = await pool.map('identity', items, { chunksize: 1 })
    expect(results).toEqual(items)
  })
})
