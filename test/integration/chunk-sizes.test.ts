import type { Pool } from 'farpool'
import { beforeAll, describe, expect, it } from 'vitest'
import { linesOf } from '../support/calls.js'
import { sharedFarm } from '../support/farm.js'

/** Chunks whose results are together larger than a message. */

const MAX = 100_000
const farm = sharedFarm({ args: ['--processes', '1', '--max-message-bytes', String(MAX)] })

const lengths = (results: readonly unknown[]) => results.map((result) => (result as string).length)

describe.each(['stream', 'unary'] as const)('over %s,', (transport) => {
  let pool: Pool
  beforeAll(async () => {
    pool = await farm.open(transport)
  })

  it('`retry` counts the attempts of each item for itself', async () => {
    // The results of the first two fill the chunk, so that the third one runs later, for the first time.
    const [first, second, third] = [farm.fresh(), farm.fresh(), farm.fresh()]
    const items = [
      [first, 2, 10],
      [second, 1, 60_000],
      [third, 2, 20],
    ]
    const results = await pool.starmap('throwThenFill', items, { chunksize: 3, retry: { times: 1 } })
    expect(lengths(results)).toEqual([10, 60_000, 20])
    expect([first, second, third].map(linesOf)).toEqual([2, 1, 2])
  })
})
