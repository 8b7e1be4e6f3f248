import { existsSync, rmSync, writeFileSync } from 'node:fs'
import { afterAll, beforeEach, describe, expect, it } from 'vitest'
import { errorOf, linesOf } from '../support/calls.js'
import { startFarm } from '../support/farm.js'
import { FUNCTIONS, farpool, temporaryFolder, until } from '../support/server.js'

/** Workers that hang or fail while they start. */

const folder = temporaryFolder()
afterAll(() => folder.remove())

let file = ''
beforeEach(() => {
  file = folder.fresh()
})

const initializedBy = (initializer: string, initargs = JSON.stringify([file])) => [
  ...['--processes', '1', '--drain', '100'],
  ...['--initializer', initializer, '--initargs', initargs],
]

describe('a worker', () => {
  it('that is stopped while it starts is killed and replaced', async () => {
    await using farm = await startFarm({ args: initializedBy('stopOnce') })
    const { pool: one } = farm
    writeFileSync(file, '')
    process.kill((await one.apply('pid')) as number, 'SIGKILL')
    await until(() => !existsSync(file), 'the next one has been stopped')
    expect(await one.apply('add', [2, 2])).toBe(4)
  })

  it.each(['never', 'spin'])(
    'whose initializer does not end within --start-timeout has failed (%s)',
    async (initializer) => {
      const args = [...initializedBy(initializer, '[]'), '--listen', '127.0.0.1:0', '--start-timeout', '300']
      const { code, stderr } = await farpool(['serve', FUNCTIONS, ...args])
      expect(code).toBe(1)
      expect(stderr).toContain('3 workers in a row died before they were ready; the last one was killed')
      expect(stderr).toContain('did not come to an end in 300 ms')
    },
  )
})

describe('a task with retries', () => {
  it('fails with WORKER_CRASHED if no worker can start for its next run', async () => {
    await using farm = await startFarm({ args: initializedBy('refuseWhile') })
    const { pool: shared } = farm
    const runs = folder.fresh()
    const error = await errorOf(shared.apply('dieAndBlock', [runs, file], undefined, { retries: 1 }))
    expect([error.reason, error.started]).toEqual(['WORKER_CRASHED', true])
    expect(error.message).toContain('it did not run again: 3 workers in a row died before they were ready')
    expect(linesOf(runs)).toBe(1)
  })

  it('waits for its next run no longer than its queue timeout', async () => {
    await using farm = await startFarm({ args: [...initializedBy('stopOnce')] })
    const { pool: one } = farm
    const runs = folder.fresh()
    const error = await errorOf(one.apply('dieAndBlock', [runs, file], undefined, { retries: 1, queueTimeout: 200 }))
    expect([error.reason, error.started, error.metadata['phase']]).toEqual(['TASK_TIMEOUT', true, 'queued'])
    expect(linesOf(runs)).toBe(1)
  })
})

describe('a pool whose workers cannot start any more', () => {
  it.each([
    ['refuseWhile', 'NO_WORKERS', /^\d+ workers in a row died before they were ready/],
    ['throwWhile', 'INITIALIZER_FAILED', /^the initializer throwWhile threw Error: the database is away/],
  ])('is NOT_SERVING, tells why, refuses calls, and recovers by itself (%s)', async (initializer, reason, why) => {
    await using farm = await startFarm({ args: initializedBy(initializer) })
    const { server: failing, pool: shared } = farm
    const health = async () => (await farpool(['health', '--address', failing.address])).stdout
    writeFileSync(file, '')
    process.kill((await shared.apply('pid')) as number, 'SIGKILL')
    await until(async () => (await shared.info()).state === 'broken', 'it is broken')
    expect((await shared.info()).failure).toMatchObject({ reason, message: expect.stringMatching(why) })
    expect(await health()).toContain('NOT_SERVING')
    const error = await errorOf(shared.apply('add', [1, 1], undefined, { timeout: 300 }))
    expect([error.reason, error.started]).toEqual([reason, false])
    rmSync(file)
    await until(async () => (await shared.info()).state === 'open', 'it has recovered')
    expect(await health()).toMatch(/\bSERVING/)
    expect(await shared.apply('add', [1, 1])).toBe(2)
  })
})
