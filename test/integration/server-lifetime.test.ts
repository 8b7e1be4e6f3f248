import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { workerPids } from '../support/calls.js'
import { startFarm } from '../support/farm.js'
import { isAlive, ServerProcess, temporaryFolder, until } from '../support/server.js'

let folder: ReturnType<typeof temporaryFolder>
beforeEach(() => {
  folder = temporaryFolder()
})
afterEach(() => folder.remove())

describe('a server', () => {
  it('ends at once on a second signal', async () => {
    await using farm = await startFarm()
    const { server, pool } = farm
    const pids = await workerPids(pool)
    const inFlight = pool.applyAsync('spin')
    await until(async () => (await pool.info()).running === 1, 'the call is running')
    server.signal('SIGTERM')
    await server.logged(({ msg }) => msg === 'waiting for calls in flight')
    server.signal('SIGTERM')
    await expect(inFlight).rejects.toMatchObject({ reason: 'POOL_TERMINATED' })
    expect(await server.exited).toBe(0)
    expect(pids.filter(isAlive)).toEqual([])
  })

  it('logs the output of functions with the worker and the task', async () => {
    await using farm = await startFarm()
    const { server, pool } = farm
    const [pid] = await workerPids(pool)
    await pool.apply('print', ['first'])
    await pool.apply('print', ['second'])
    const lines = [
      await server.logged(({ msg }) => msg === 'first'),
      await server.logged(({ msg }) => msg === 'second (stderr)'),
    ]
    expect(lines).toMatchObject([
      { worker: pid, task: 1, stream: 'stdout' },
      { worker: pid, task: 2, stream: 'stderr' },
    ])
  })

  it('that drains leaves its Unix socket to the next server', async () => {
    const socket = folder.path('passed-on.sock')
    const listen = ['--processes', '1', '--listen', `unix:${socket}`]
    await using farm = await startFarm({ args: listen })
    const { server: old, pool } = farm
    const [begun, go] = [folder.path('passed-on'), folder.path('passed-on go')]
    const inFlight = pool.applyAsync('waitFor', [begun, go, 'finished'])
    await until(() => existsSync(begun), 'the call is running')
    old.signal('SIGTERM')
    await old.logged(({ msg }) => msg === 'waiting for calls in flight')
    await using _next = await ServerProcess.start(listen)
    expect(await pool.apply('pid')).not.toBe(Number(readFileSync(begun, 'utf8')))
    writeFileSync(go, '')
    expect(await inFlight).toBe('finished')
    expect(await old.exited).toBe(0)
    expect(existsSync(socket)).toBe(true)
  })

  it('fails running calls with POOL_TERMINATED when the time to drain is over', async () => {
    await using farm = await startFarm({ args: ['--processes', '1', '--drain', '50'] })
    const { server, pool } = farm
    const inFlight = pool.applyAsync('never')
    await until(async () => (await pool.info()).running === 1, 'the call is running')
    server.signal('SIGINT')
    await expect(inFlight).rejects.toMatchObject({ reason: 'POOL_TERMINATED', code: 'ABORTED' })
    expect(await server.exited).toBe(0)
  })
})
