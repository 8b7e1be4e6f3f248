import { describe, expect, it } from 'vitest'
import { builtExample, runExample } from '../support/examples.js'
import { ServerProcess } from '../support/server.js'

const listed = (line = '') => line.replace(/^\w+ /, '').split(',').map(Number)

describe("the six programs of Python's Pool documentation", () => {
  it('(a) initializer with arguments, maxtasksperchild=2 over 5 tasks on 2 processes', async () => {
    const lines = await runExample('pool/a-initializer')
    const facts = lines.map((line) =>
      /^task (\d) ran in process (\d+), which was initialized 1 time as hello-7$/.exec(line),
    )
    expect(facts.map((fact) => fact?.[1])).toEqual(['0', '1', '2', '3', '4'])
    const tasksOf = new Map<string, number>()
    for (const fact of facts) tasksOf.set(String(fact?.[2]), (tasksOf.get(String(fact?.[2])) ?? 0) + 1)
    expect(Math.max(...tasksOf.values())).toBeLessThanOrEqual(2)
    expect(tasksOf.size).toBeGreaterThanOrEqual(3)
  })

  it('(b) apply_async with kwargs and a callback, then apply', async () => {
    expect(await runExample('pool/b-apply')).toEqual(['callback 1025', 'get 1025', 'apply 8'])
  })

  it('(c) map and map_async with chunksize=2 and a partial', async () => {
    expect(await runExample('pool/c-map')).toEqual(['map 0,1,4,9,16,25,36', 'map_async 1,2,4,8,16,32,64'])
  })

  it('(d) imap and imap_unordered with chunksize=2, consumed after close()', async () => {
    const [ordered, unordered, joined] = await runExample('pool/d-imap')
    const squares = [0, 1, 4, 9, 16, 25, 36, 49]
    expect(listed(ordered)).toEqual(squares)
    expect(listed(unordered).sort((a, b) => a - b)).toEqual(squares)
    // Two by two: the items of a chunk stay together.
    for (let i = 0; i < 8; i += 2) {
      const [first = 0, second = 0] = listed(unordered)
        .slice(i, i + 2)
        .map(Math.sqrt)
      expect(second).toBe(first + 1)
    }
    expect(joined).toBe('joined')
  })

  it('(e) map_async with wait(timeout), ready(), successful(), get(timeout)', async () => {
    expect(await runExample('pool/e-async-result')).toEqual([
      'ready false',
      'TimeoutError: not yet',
      'get 300,300',
      'ready true successful true',
    ])
  })

  it('(f) starmap', async () => {
    expect(await runExample('pool/f-starmap')).toEqual(['starmap 8,9,1', 'starmap_async 8,9,1'])
  })

  it('run on an existing server, too', async () => {
    await using server = await ServerProcess.start(['--processes', '1'], [builtExample('pool/functions')])
    for (const name of ['a-initializer', 'c-map', 'd-imap']) {
      const [first] = await runExample(`pool/${name}`, server.address)
      expect(first).toMatch(/^(task 0 ran|map 0,1,4|imap 0,1,4)/)
    }
  })
})
