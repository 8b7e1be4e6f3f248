import { readFileSync } from 'node:fs'
import { Pool, WorkerCrashedError } from 'farpool'
import { beforeEach, describe, expect, it } from 'vitest'
import { errorOf, waiting } from '../support/calls.js'
import { sharedFarm, startFarm } from '../support/farm.js'
import { isAlive, until } from '../support/server.js'

/** Workers that use too much memory, and workers that are stopped. */

const limits = ['--max-heap-mb', '64', '--max-rss-mb', '300']
const farm = sharedFarm({ args: ['--processes', '2', '--grace', '50', ...limits] })

let file = ''
beforeEach(() => {
  file = farm.fresh()
})

describe('a worker', () => {
  it('that exits in task after task is replaced after growing pauses', async () => {
    await using one = new Pool(farm.address, { processes: 1 })
    const began = performance.now()
    for (let deaths = 0; deaths < 4; deaths++) {
      const error = await errorOf(one.apply('exit', [3]))
      expect([error.reason, error.metadata['exit_code']]).toEqual(['WORKER_CRASHED', '3'])
    }
    expect(await one.apply('add', [1, 2])).toBe(3)
    // The pauses are 0, 100, 400 and 900 ms.
    expect(performance.now() - began).toBeGreaterThan(1_350)
  })

  it('that fills its heap fails its task with WORKER_OOM, and is replaced', async () => {
    const error = await errorOf(farm.pool.apply('fillHeap'))
    expect(error).toBeInstanceOf(WorkerCrashedError)
    expect([error.reason, error.started, error.metadata['memory']]).toEqual(['WORKER_OOM', true, 'heap'])
    expect(error.message).toContain('ran out of heap')
    expect(await farm.pool.apply('add', [1, 2])).toBe(3)
  })

  it('that fills its heap at the same time as another fails only its own task', async () => {
    const errors = await Promise.all([errorOf(farm.pool.apply('fillHeap')), errorOf(farm.pool.apply('fillHeap'))])
    for (const { reason, metadata } of errors) expect([reason, metadata['memory']]).toEqual(['WORKER_OOM', 'heap'])
    expect(errors[0].metadata['pid']).not.toBe(errors[1].metadata['pid'])
    expect(await farm.pool.map('square', [1, 2, 3])).toEqual([1, 4, 9])
  })

  it.runIf(process.platform === 'linux')(
    'that fills its heap fails its task with WORKER_OOM also where no temporary files can be made, and the log warns of that',
    async () => {
      await using other = await startFarm({ args: limits, prefix: ['env', 'TMPDIR=/nowhere'] })
      expect(await other.server.logged(({ msg }) => msg.includes('temporary files'))).toMatchObject({
        level: 40,
        folder: '/nowhere',
      })
      expect(await errorOf(other.pool.apply('fillHeap'))).toMatchObject({
        reason: 'WORKER_OOM',
        metadata: { memory: 'heap' },
      })
    },
  )

  it.runIf(process.platform === 'linux')('has a higher oom_score_adj than its server', async () => {
    const likely = ['/bin/sh', '-c', 'echo 700 >/proc/$$/oom_score_adj && exec "$@"', 'sh']
    await using likelyFarm = await startFarm({ prefix: likely })
    const { server: running, pool: client } = likelyFarm
    const score = (of: number) => Number(readFileSync(`/proc/${of}/oom_score_adj`, 'utf8'))
    expect([score(running.pid), score((await client.apply('pid')) as number)]).toEqual([700, 1_000])
    expect(score((await farm.pool.apply('pid')) as number)).toBeGreaterThanOrEqual(500)
  })

  it('above --max-rss-mb is replaced after its task', async () => {
    const before = (await farm.pool.info()).workers.map(({ pid }) => pid)
    const pid = await farm.pool.apply('leak', [400])
    expect(before).toContain(pid)
    await until(
      async () => !(await farm.pool.info()).workers.some((worker) => worker.pid === pid),
      'it has been replaced',
    )
    expect(await farm.pool.map('square', [1, 2, 3])).toEqual([1, 4, 9])
  })

  it('that was stopped while idle is killed, and its task runs on another worker', async () => {
    await using one = new Pool(farm.address, { processes: 1 })
    const pid = (await one.apply('pid')) as number
    process.kill(pid, 'SIGSTOP')
    expect(await one.apply('add', [2, 2])).toBe(4)
    expect(isAlive(pid)).toBe(false)
  })

  it('that was stopped in a task is killed, and the task fails with WORKER_CRASHED', async () => {
    await using one = new Pool(farm.address, { processes: 1 })
    const { result, pid } = await waiting(one, file)
    process.kill(pid, 'SIGSTOP')
    const error = await errorOf(result.get())
    expect([error.reason, error.message]).toEqual(['WORKER_CRASHED', expect.stringContaining('SIGSTOP')])
  })
})
