import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { type FarpoolError, Pool } from 'farpool'
import { describe, expect, it } from 'vitest'
import { startFarm } from '../support/farm.js'
import { ServerProcess, until } from '../support/server.js'

/** Sets the limit of open files of the server. Returns the limit before. */
function limit(server: ServerProcess, files: number): number {
  const before = /^Max open files\s+(\d+)/m.exec(readFileSync(`/proc/${server.pid}/limits`, 'utf8'))?.[1]
  execFileSync('prlimit', ['--pid', String(server.pid), `--nofile=${files}:`])
  return Number(before)
}
/** A limit that leaves room for one more connection and for no process. */
const full = (server: ServerProcess) => readdirSync(`/proc/${server.pid}/fd`).length + 1
const children = (server: ServerProcess) =>
  readFileSync(`/proc/${server.pid}/task/${server.pid}/children`, 'utf8').trim().split(' ').sort()

describe.runIf(process.platform === 'linux')('a server without free file descriptors', () => {
  it('cannot replace a worker: the pool is broken, says why, and recovers', async () => {
    await using farm = await startFarm()
    const { server, pool } = farm
    const pid = (await pool.apply('pid')) as number
    const before = limit(server, full(server) - 8)
    process.kill(pid, 'SIGKILL')
    await until(async () => (await pool.info()).state === 'broken', 'it is broken')
    expect((await pool.info()).failure?.message).toMatch(/3 workers in a row .* could not be started: spawn .* EMFILE/)
    limit(server, before)
    await until(async () => (await pool.info()).state === 'open', 'it has recovered')
    expect(await pool.apply('add', [1, 1])).toBe(2)
  })

  it('refuses to open a pool, says why, and leaves no process of it', async () => {
    await using farm = await startFarm()
    const { server, pool: shared } = farm
    await shared.apply('pid')
    const there = children(server)
    const before = limit(server, full(server))
    await using own = new Pool(server.address, { processes: 2 })
    const error = (await own
      .apply('add', [1, 1], undefined, { timeout: 5_000 })
      .catch((thrown) => thrown)) as FarpoolError
    expect([error.reason, error.message]).toEqual(['NO_WORKERS', expect.stringContaining('EMFILE')])
    expect(children(server)).toEqual(there)
    limit(server, before)
    await using next = new Pool(server.address, { processes: 2 })
    expect(await next.apply('add', [1, 1])).toBe(2)
    expect(await shared.apply('add', [1, 2])).toBe(3)
  })

  it('warns at its start if the limit is too low for its options', async () => {
    await using server = await ServerProcess.start(['--max-connections', '100000000', '--max-processes', '8'])
    const line = await server.logged(({ msg }) => msg.includes('fewer file descriptors'))
    expect(line).toMatchObject({ level: 40, needed: 100_000_056, maxConnections: 100_000_000, maxProcesses: 8 })
  })
})
