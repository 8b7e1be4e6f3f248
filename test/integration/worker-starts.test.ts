import { writeFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { startFarm } from '../support/farm.js'
import { temporaryFolder } from '../support/server.js'

/** A worker that fails while it starts. faults/worker-starts.test.ts has the slow cases. */

it('a pool goes on after one worker has failed to start: its calls wait for the next worker', async () => {
  const folder = temporaryFolder()
  const file = folder.fresh()
  const initializer = ['--initializer', 'throwOnce', '--initargs', JSON.stringify([file])]
  await using farm = await startFarm({ args: ['--processes', '1', '--drain', '100', ...initializer] })
  writeFileSync(file, '')
  process.kill((await farm.pool.apply('pid')) as number, 'SIGKILL')
  await farm.server.logged(({ msg }) => msg === 'a worker could not be started')
  expect(await farm.pool.apply('add', [1, 1])).toBe(2)
  folder.remove()
})
