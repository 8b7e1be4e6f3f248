import { readFileSync } from 'node:fs'
import { Pool } from 'farpool'
import { beforeEach, describe, expect, it } from 'vitest'
import { errorOf } from '../support/calls.js'
import { sharedFarm, startFarm } from '../support/farm.js'
import { isAlive, until } from '../support/server.js'

/** Workers that die in a task or between two tasks. faults/crashes.test.ts has the slow ones. */

const limits = ['--max-heap-mb', '64', '--max-rss-mb', '300']
const farm = sharedFarm({ args: ['--processes', '2', '--grace', '50', ...limits] })

let file = ''
beforeEach(() => {
  file = farm.fresh()
})

describe('a worker', () => {
  it('that aborts fails its task with WORKER_CRASHED, not WORKER_OOM', async () => {
    const error = await errorOf(farm.pool.apply('abort'))
    expect([error.reason, error.metadata['signal']]).toEqual(['WORKER_CRASHED', 'SIGABRT'])
  })

  it('that dies in a chunk tells how many items of the chunk had ended', async () => {
    const error = await errorOf(farm.pool.map('dieAt', [0, 0, 0, 1, 0], { chunksize: 5 }))
    expect([error.reason, error.metadata['items_done']]).toEqual(['WORKER_CRASHED', '3'])
  })

  it.each([
    ['exits in a task', true, {}],
    ['is replaced after its tasks', false, { maxtasksperchild: 1 }],
  ] as const)('that %s takes the processes that its functions started with it', async (_, dies, options) => {
    await using one = new Pool(farm.address, { processes: 1, ...options })
    await one.apply('leaveChild', [file, dies]).catch(() => {})
    const child = Number(readFileSync(file, 'utf8'))
    await until(() => !isAlive(child), 'it is gone')
  })

  it('that exits between two tasks is replaced', async () => {
    await using one = new Pool(farm.address, { processes: 1 })
    const pid = await one.apply('pid')
    await one.apply('exitNext', [1])
    await until(async () => (await one.info()).workers.some((worker) => worker.pid !== pid), 'another is there')
    expect(await one.apply('add', [1, 1])).toBe(2)
  })
})

describe('a task', () => {
  it('whose payload kills three workers in a row fails, and the next task runs', async () => {
    // The worker dies while it receives a payload through its socket, as when the kernel runs out of memory.
    const module = `import { Readable } from 'node:stream'
const { push } = Readable.prototype
Readable.prototype.push = function (piece, ...rest) {
  if (piece?.length > 10_000) process.kill(process.pid, 'SIGKILL')
  return push.call(this, piece, ...rest)
}
export const lengthOf = (text) => text.length
`
    await using dying = await startFarm({ module })
    const { pool: one } = dying
    const error = await errorOf(one.apply('lengthOf', ['x'.repeat(200_000)]))
    expect([error.reason, error.started]).toEqual(['WORKER_CRASHED', true])
    expect(error.message).toContain('3 workers in a row died when they were given lengthOf; the last one')
    expect(await one.apply('lengthOf', ['xx'])).toBe(2)
  })
})
