import { Pool, PoolTerminatedError } from 'farpool'
import { beforeEach, describe, expect, it } from 'vitest'
import { sharedFarm } from '../support/farm.js'
import { until } from '../support/server.js'

/** An input of imap that does not yield its next item must block nobody else. */

/** `farm.pool` is a second client, which no test disturbs. */
const farm = sharedFarm({ args: ['--processes', '2', '--grace', '200'] })
const idle = () => until(async () => isIdle(await farm.pool.info()), 'nothing waits and nothing runs')

const isIdle = ({ queued, running }: { queued: number; running: number }) => queued === 0 && running === 0

describe.each(['stream', 'unary'] as const)('an imap whose input never yields its next item, over %s', (transport) => {
  let pool: Pool
  beforeEach(async () => {
    pool = new Pool(farm.address, { transport })
    return async () => {
      await pool.terminate()
      await idle()
    }
  })

  /** An input that yields these items. Its next item comes only when the test calls `late`. */
  function stuck(...items: unknown[]) {
    const seen = { pulled: 0, returned: 0, late: (_: IteratorResult<unknown> | Promise<never>) => {} }
    const input: AsyncIterableIterator<unknown> = {
      [Symbol.asyncIterator]: () => input,
      next: () => {
        const value = items[seen.pulled++]
        if (seen.pulled <= items.length) return Promise.resolve({ done: false, value })
        return new Promise((resolve) => {
          seen.late = resolve
        })
      },
      return: () => {
        seen.returned++
        return Promise.resolve({ done: true, value: undefined })
      },
    }
    return { input, seen }
  }

  it.each(['imap', 'imapUnordered'] as const)(
    'has the results of the items that were sent, and ends with return() (%s)',
    async (imap) => {
      const { input, seen } = stuck(1, 2, 3)
      const results = pool[imap]('square', input)
      const values = [await results.next(), await results.next(), await results.next()].map(({ value }) => value)
      expect(values.sort()).toEqual([1, 4, 9])
      const waiting = results.next()
      expect(await farm.pool.apply('add', [1, 2])).toBe(3)
      expect(await results.return()).toEqual({ done: true, value: undefined })
      expect(await waiting).toEqual({ done: true, value: undefined })
      expect(await results.next()).toEqual({ done: true, value: undefined })
      expect(seen).toMatchObject({ pulled: 4, returned: 1 })
      await pool.close()
      await pool.join()
    },
  )

  it('cancels its running and waiting tasks in return(), and sends no later item', async () => {
    const { input, seen } = stuck(1, 2, 3, 4, 5, 6)
    const results = pool.imap('never', input)
    await until(async () => (await farm.pool.info()).queued === 4, 'all have come')
    const { submitted } = (await farm.pool.info()).tasks
    await results.return()
    await idle()
    seen.late({ done: false, value: 7 })
    expect(await pool.apply('add', [1, 2])).toBe(3)
    expect((await farm.pool.info()).tasks.submitted).toBe(submitted + 1)
    expect(seen).toMatchObject({ pulled: 7, returned: 1 })
  })

  it('does not send an incomplete chunk after return()', async () => {
    const { input, seen } = stuck(1, 2, 3)
    const { submitted } = (await farm.pool.info()).tasks
    const results = pool.imap('square', input, { chunksize: 10 })
    await until(() => seen.pulled === 4, 'the input is stuck')
    await results.return()
    seen.late({ done: false, value: 4 })
    expect(await pool.apply('add', [1, 2])).toBe(3)
    expect(seen).toMatchObject({ pulled: 4, returned: 1 })
    expect((await farm.pool.info()).tasks.submitted).toBe(submitted + 1)
  })

  it('ignores an error of its input after return()', async () => {
    const { input, seen } = stuck(1)
    const results = pool.imap('square', input)
    expect((await results.next()).value).toBe(1)
    await results.return()
    seen.late(Promise.reject(new Error('too late')))
    expect(await pool.apply('add', [1, 2])).toBe(3)
    expect(await results.next()).toEqual({ done: true, value: undefined })
  })

  it('fails a waiting next() at once when its pool is terminated', async () => {
    const { input, seen } = stuck(1)
    const results = pool.imap('square', input)
    expect((await results.next()).value).toBe(1)
    const waiting = expect(results.next()).rejects.toBeInstanceOf(PoolTerminatedError)
    await pool.terminate()
    await waiting
    expect(seen).toMatchObject({ pulled: 2, returned: 1 })
    expect(await results.next()).toEqual({ done: true, value: undefined })
  })

  it('ends also if its input is a generator that is stuck in an await', async () => {
    async function* letters() {
      yield 'a'
      await new Promise(() => {})
    }
    for (const end of [(results: AsyncIterator<unknown>) => results.return?.(), () => pool.terminate()]) {
      const results = pool.imap('identity', letters())
      expect((await results.next()).value).toBe('a')
      await end(results)
    }
    expect(await farm.pool.apply('add', [1, 2])).toBe(3)
  })
})
