import { readdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { Pool } from 'farpool'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { workerPids } from '../support/calls.js'
import { runClient } from '../support/client.js'
import { sharedFarm } from '../support/farm.js'
import { FUNCTIONS, isAlive, temporaryFolder, until } from '../support/server.js'

let folder: ReturnType<typeof temporaryFolder>
beforeEach(() => {
  folder = temporaryFolder()
})
afterEach(() => folder.remove())

const localFolders = () =>
  readdirSync(tmpdir()).filter((name) => name.startsWith('farpool-') && !name.startsWith('farpool-test-'))

describe('an owned pool', () => {
  const farm = sharedFarm()

  it('has its own processes, which end with it, and leaves the shared pool alone', async () => {
    const { pool: shared } = farm
    const own = new Pool(farm.address, { processes: 3 })
    await until(async () => (await workerPids(own)).length === 3, 'its processes have been made')
    const pids = await workerPids(own)
    expect(pids).not.toContain((await workerPids(shared))[0])
    await own.terminate()
    expect(pids.filter(isAlive)).toEqual([])
    expect(await shared.apply('add', [1, 2])).toBe(3)
  })

  it('ends with its client: its workers end too, even in an endless loop', async () => {
    const client = runClient(
      `const pool = new Pool(${JSON.stringify(farm.address)}, { processes: 2 })
       const { workers } = await pool.info()
       console.log(JSON.stringify(workers.map(({ pid }) => pid)))
       await pool.apply('spin')`,
    )
    const pids: number[] = JSON.parse(
      await new Promise((resolve) => client.stdout?.once('data', (data) => resolve(String(data)))),
    )
    expect(pids.every(isAlive)).toBe(true)
    client.kill('SIGKILL')
    await until(() => !pids.some(isAlive), 'its workers are gone')
  })
})

describe('Pool.local', () => {
  it('takes a path or a URL, and leaves no process and no file', async () => {
    const before = localFolders()
    for (const module of [FUNCTIONS, new URL(`file://${FUNCTIONS}`), `file://${FUNCTIONS}`]) {
      const pool = await Pool.local(module, { processes: 2 })
      const pids = await workerPids(pool)
      expect(pids).toHaveLength(2)
      expect(await pool.apply('add', [1, 2])).toBe(3)
      await pool.terminate()
      expect(pids.filter(isAlive)).toEqual([])
    }
    expect(localFolders()).toEqual(before)
  })

  it('completes accepted calls in close() and join(), then ends its server', async () => {
    const pool = await Pool.local(FUNCTIONS, { processes: 1 })
    const pids = await workerPids(pool)
    const results = pool.mapAsync('square', [1, 2, 3])
    await pool.close()
    await pool.join()
    expect(await results).toEqual([1, 4, 9])
    expect(pids.filter(isAlive)).toEqual([])
  })
})
