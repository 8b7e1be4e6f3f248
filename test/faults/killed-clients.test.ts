import { describe, expect, it } from 'vitest'
import { linesOf } from '../support/calls.js'
import { runClient } from '../support/client.js'
import { sharedFarm } from '../support/farm.js'
import { until } from '../support/server.js'

/** After a client has vanished, the server keeps its calls for 5 seconds, because the client might resume its session. */

const farm = sharedFarm({ args: ['--processes', '2', '--grace', '200'] })

describe('a client that is killed', () => {
  it.each(['stream', 'unary'] as const)('leaves none of its calls in the pool (%s)', async (transport) => {
    const [begun, never] = [farm.fresh(), farm.fresh()]
    const client = runClient(
      `const pool = new Pool(${JSON.stringify(farm.address)}, { transport: '${transport}' })
       const items = Array(10).fill(${JSON.stringify([begun, never, 1])})
       await pool.starmap('waitFor', items, { chunksize: 1 })`,
    )
    await until(() => linesOf(begun) === 2, 'two of its tasks run')
    client.kill('SIGKILL')
    await until(async () => {
      const { queued, running } = await farm.pool.info()
      return queued === 0 && running === 0
    }, 'its tasks have gone')
    expect(await farm.pool.apply('add', [1, 2])).toBe(3)
  })
})
