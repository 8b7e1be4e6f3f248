import { existsSync, rmSync, writeFileSync } from 'node:fs'
import { Pool } from 'farpool'
import { afterAll, beforeEach, describe, expect, it } from 'vitest'
import { errorOf, linesOf } from '../support/calls.js'
import { FUNCTIONS, farpool, ServerProcess, temporaryFolder, until } from '../support/server.js'

/** Workers that fail while they start. */

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
  it('that is stopped while it starts is killed, and another takes its place', async () => {
    await using starting = await ServerProcess.start(initializedBy('stopOnce'))
    await using one = new Pool(starting.address)
    writeFileSync(file, '')
    process.kill((await one.apply('pid')) as number, 'SIGKILL')
    await until(() => !existsSync(file), 'the next one has been stopped')
    expect(await one.apply('add', [2, 2])).toBe(4)
  })

  it.each(['never', 'spin'])('whose initializer never ends (%s) has failed to start', async (initializer) => {
    const args = [...initializedBy(initializer, '[]'), '--listen', '127.0.0.1:0', '--start-timeout', '300']
    const { code, stderr } = await farpool(['serve', FUNCTIONS, ...args])
    expect(code).toBe(1)
    expect(stderr).toContain('3 workers in a row died before they were ready; the last one was killed')
    expect(stderr).toContain('did not come to an end in 300 ms')
  })
})

describe('a pool whose workers come to fail as soon as they start', () => {
  it.each([
    ['refuseWhile', 'NO_WORKERS', /^\d+ workers in a row died before they were ready/],
    ['throwWhile', 'INITIALIZER_FAILED', /^the initializer throwWhile threw Error: the database is away/],
  ])('says so in health and GetPool, refuses calls, and recovers by itself: %s', async (initializer, reason, why) => {
    await using failing = await ServerProcess.start(initializedBy(initializer))
    await using shared = new Pool(failing.address)
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

  it('lives through a single failure: calls wait for the next worker', async () => {
    await using failing = await ServerProcess.start(initializedBy('throwOnce'))
    await using shared = new Pool(failing.address)
    writeFileSync(file, '')
    process.kill((await shared.apply('pid')) as number, 'SIGKILL')
    await failing.logged(({ msg }) => msg === 'a worker could not be started')
    expect(await shared.apply('add', [1, 1])).toBe(2)
  })
})

describe('a task that may run again', () => {
  it('runs no more often than it may where workers cannot start for a while', async () => {
    await using failing = await ServerProcess.start(initializedBy('refuseWhile'))
    await using shared = new Pool(failing.address)
    const runs = folder.fresh()
    const error = await errorOf(shared.apply('dieAndBlock', [runs, file], undefined, { retries: 1 }))
    expect([error.reason, error.started]).toEqual(['WORKER_CRASHED', true])
    expect(error.message).toContain('it did not run again: 3 workers in a row died before they were ready')
    expect(linesOf(runs)).toBe(1)
  })

  it('that waits for another try waits as long as it may wait', async () => {
    await using failing = await ServerProcess.start([...initializedBy('stopOnce')])
    await using one = new Pool(failing.address)
    const runs = folder.fresh()
    const error = await errorOf(one.apply('dieAndBlock', [runs, file], undefined, { retries: 1, queueTimeout: 200 }))
    expect([error.reason, error.started, error.metadata['phase']]).toEqual(['TASK_TIMEOUT', true, 'queued'])
    expect(linesOf(runs)).toBe(1)
  })
})
