import { writeFileSync } from 'node:fs'
import { type ServiceError, status } from '@grpc/grpc-js'
import { LimitError, Pool } from 'farpool'
import { afterAll, beforeEach, describe, expect, it } from 'vitest'
import { errorOf, waiting } from '../support/calls.js'
import { sharedFarm } from '../support/farm.js'
import { temporaryFolder, until } from '../support/server.js'
import { request } from '../support/stub.js'

const folder = temporaryFolder()
afterAll(() => folder.remove())
let file = ''
beforeEach(() => {
  file = folder.fresh()
})

describe('a full queue', () => {
  const limits = ['--max-queued', '2', '--max-pools', '1', '--max-processes', '3']
  const farm = sharedFarm({ args: ['--processes', '1', ...limits], options: { transport: 'unary' } })
  /** Fills the queue: one call runs until the file `${file}.go` exists, and two wait. */
  const fill = async () => {
    const { pool: blocked } = farm
    const { result } = await waiting(blocked, file)
    const queued = [1, 2].map((x) => blocked.applyAsync('square', [x]))
    await until(async () => (await blocked.info()).queued === 2, 'two wait')
    return [result, ...queued]
  }

  it('refuses a call with QUEUE_FULL, RetryInfo and pushback', async () => {
    const results = await fill()
    const error = await new Promise<ServiceError>((resolve) => {
      farm.stub.apply(request('add', 1, 1), (failed) => resolve(failed as ServiceError))
    })
    expect([error.code, error.metadata.get('grpc-retry-pushback-ms')]).toEqual([status.RESOURCE_EXHAUSTED, ['100']])
    expect(error.details).toBe('2 tasks in the pool wait already; at most 2 may. Try again later')
    writeFileSync(`${file}.go`, '')
    expect(await Promise.all(results)).toEqual(['went on', 1, 4])
  })

  it.each(['stream', 'unary'] as const)(
    'makes the client try again until the timeout of the call (%s)',
    async (transport) => {
      const results = await fill()
      await using client = new Pool(farm.address, { transport })
      const error = await errorOf(client.apply('add', [1, 1], undefined, { timeout: 300 }))
      expect(error).toBeInstanceOf(LimitError)
      expect([error.reason, error.started]).toEqual(['QUEUE_FULL', false])
      const patient = [client.applyAsync('add', [1, 1]), client.mapAsync('square', [1, 2, 3], { chunksize: 1 })]
      await until(async () => (await client.info()).tasks.submitted > 0, 'they are refused meanwhile')
      writeFileSync(`${file}.go`, '')
      expect(await Promise.all(patient)).toEqual([2, [1, 4, 9]])
      await Promise.all(results)
    },
  )

  it('is not the only limit: too many pools and processes are refused', async () => {
    const refusal = async (processes: number) => {
      await using another = new Pool(farm.address, { processes })
      return (await errorOf(another.apply('add', [1, 1]))).message
    }
    const own = farm.connect({ processes: 1 })
    await own.apply('add', [1, 1])
    expect(await refusal(1)).toBe('1 pools of clients are open; at most 1 may be')
    await own.terminate()
    expect(await refusal(4)).toBe('a pool of 4 processes, where there are 1; all pools may have 3')
  })
})
