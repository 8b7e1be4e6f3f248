import { Pool } from 'farpool'
import { describe, expect, it } from 'vitest'
import { FUNCTIONS } from '../support/server.js'

/** Both ends send at the same time, and both must read while they send. */

describe('a client', () => {
  // With wide windows at both ends this would deadlock at once: each end would wait for the other to read.
  it('sends and receives more than all buffers hold, at the same time', async () => {
    await using pool = await Pool.local(FUNCTIONS, { processes: 2 })
    const items = Array.from({ length: 500_000 }, (_, i) => i + 0.1)
    const maps = [1, 2, 3, 4].map(() => pool.map('identity', items))
    for (const results of await Promise.all(maps)) expect(results.length).toBe(items.length)
  })
})
