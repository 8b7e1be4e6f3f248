import { Pool } from 'farpool'
import { describe, expect, it } from 'vitest'
import { errorOf } from '../support/calls.js'
import { ServerProcess } from '../support/server.js'
import { Distance } from './distance.js'
import { isNowhere, notHere } from './hosts.js'

const ITEMS = Array.from({ length: 200 }, (_, item) => item)
const SQUARES = ITEMS.map((item) => item ** 2)
const BYTES = 1024 * 1024

const NO_WAY = 'neither netem nor tun devices here'

const timed = async (call: () => Promise<unknown>): Promise<number> => {
  const start = performance.now()
  await call()
  return performance.now() - start
}

const all = async <T>(results: AsyncIterable<T>): Promise<T[]> => {
  const list: T[] = []
  for await (const result of results) list.push(result)
  return list
}

describe.skipIf(isNowhere)(`a slow network${notHere}`, () => {
  it.for([
    ['stream', 20],
    ['stream', 50],
    ['unary', 20],
    ['unary', 50],
  ] as const)('delivers the outcomes of calls of each kind (%s, %i ms each way)', async ([transport, ms], { skip }) => {
    await using way = await Distance.open(ms)
    if (!way) return skip(NO_WAY)
    await using server = await ServerProcess.start(['--processes', '2', '--listen', `${way.listen}:0`, '--insecure'])
    const address = server.address.replace(way.listen, way.connect)
    await using pool = new Pool(address, { transport })
    await using own = new Pool(address, { processes: 1, transport })
    const bytes = new Uint8Array(BYTES).fill(7)
    const roundTrip = Math.min(...(await Promise.all([1, 2, 3].map(() => timed(() => pool.apply('add', [1, 2]))))))
    expect(roundTrip).toBeGreaterThanOrEqual(2 * ms)
    const [applied, mapped, echoed, ordered, failed, late, initialized] = await Promise.all([
      Promise.all(ITEMS.map((item) => pool.apply('square', [item]))),
      pool.map('square', ITEMS),
      pool.apply('identity', [bytes]),
      all(pool.imap('square', ITEMS)),
      errorOf(pool.apply('notThirteen', [13])),
      errorOf(pool.apply('never', [], undefined, { timeout: 10 * ms })),
      own.map('square', ITEMS),
    ])
    for (const squares of [applied, mapped, ordered, initialized]) expect(squares).toEqual(SQUARES)
    // toEqual would compare item by item, which takes longer than the rest of this test.
    expect(Buffer.compare(echoed as Uint8Array, bytes)).toBe(0)
    expect([failed.reason, late.reason]).toEqual(['FUNCTION_ERROR', 'TASK_TIMEOUT'])
  })

  it.for(['stream', 'unary'] as const)(
    'does not slow down an imap by one round trip per item (%s)',
    async (transport, { skip }) => {
      await using way = await Distance.open(50)
      if (!way) return skip(NO_WAY)
      await using server = await ServerProcess.start(['--processes', '2', '--listen', `${way.listen}:0`, '--insecure'])
      await using pool = new Pool(server.address.replace(way.listen, way.connect), { transport })
      await pool.apply('square', [1])
      const roundTrip = await timed(() => pool.apply('square', [1]))
      const took = await timed(async () => {
        let at = 0
        for await (const square of pool.imap('square', ITEMS, { chunksize: 1 })) expect(square).toBe(SQUARES[at++])
        expect(at).toBe(ITEMS.length)
      })
      // Without a window it would be one round trip per item.
      expect(took / roundTrip).toBeLessThan(ITEMS.length / 8)
    },
  )
})
