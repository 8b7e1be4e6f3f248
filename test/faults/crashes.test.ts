import { readFileSync, writeFileSync } from 'node:fs'
import { Pool, WorkerCrashedError } from 'farpool'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { errorOf, waiting } from '../support/calls.js'
import { isAlive, ServerProcess, temporaryFolder, until } from '../support/server.js'

/** Workers that fail in what they run, and between. */

const folder = temporaryFolder()
let server: ServerProcess
let pool: Pool
beforeAll(async () => {
  server = await ServerProcess.start([
    '--processes',
    '2',
    '--max-heap-mb',
    '64',
    '--max-rss-mb',
    '300',
    '--grace',
    '50',
  ])
  pool = new Pool(server.address)
})
afterAll(async () => {
  await pool.terminate()
  await server[Symbol.asyncDispose]()
  folder.remove()
})

let file = ''
beforeEach(() => {
  file = folder.fresh()
})

describe('a worker', () => {
  it('that fills its heap ends with WORKER_OOM, and another takes its place', async () => {
    const error = await errorOf(pool.apply('fillHeap'))
    expect(error).toBeInstanceOf(WorkerCrashedError)
    expect([error.reason, error.started, error.metadata['memory']]).toEqual(['WORKER_OOM', true, 'heap'])
    expect(error.message).toContain('ran out of heap')
    expect(await pool.apply('add', [1, 2])).toBe(3)
  })

  it('that fills its heap in the same moment as another ends so too, each in its own call', async () => {
    const errors = await Promise.all([errorOf(pool.apply('fillHeap')), errorOf(pool.apply('fillHeap'))])
    for (const { reason, metadata } of errors) expect([reason, metadata['memory']]).toEqual(['WORKER_OOM', 'heap'])
    expect(errors[0].metadata['pid']).not.toBe(errors[1].metadata['pid'])
    expect(await pool.map('square', [1, 2, 3])).toEqual([1, 4, 9])
  })

  it.runIf(process.platform === 'linux')(
    'is what the kernel takes first, also where its server would be taken before others',
    async () => {
      const likely = ['/bin/sh', '-c', 'echo 700 >/proc/$$/oom_score_adj && exec "$@"', 'sh']
      await using running = await ServerProcess.start(['--processes', '1'], undefined, likely)
      await using client = new Pool(running.address)
      const score = (of: number) => Number(readFileSync(`/proc/${of}/oom_score_adj`, 'utf8'))
      expect([score(running.pid), score((await client.apply('pid')) as number)]).toEqual([700, 1_000])
      expect(score((await pool.apply('pid')) as number)).toBeGreaterThanOrEqual(500)
    },
  )

  it('that aborts for another reason is no such case', async () => {
    const error = await errorOf(pool.apply('abort'))
    expect([error.reason, error.metadata['signal']]).toEqual(['WORKER_CRASHED', 'SIGABRT'])
  })

  it('that has grown too large is replaced after its task', async () => {
    const before = (await pool.info()).workers.map(({ pid }) => pid)
    const pid = await pool.apply('leak', [400])
    expect(before).toContain(pid)
    await until(async () => !(await pool.info()).workers.some((worker) => worker.pid === pid), 'it has been replaced')
    expect(await pool.map('square', [1, 2, 3])).toEqual([1, 4, 9])
  })

  it('that was stopped while idle is killed when it does not begin; its task goes to another unnoticed', async () => {
    await using one = new Pool(server.address, { processes: 1 })
    const pid = (await one.apply('pid')) as number
    process.kill(pid, 'SIGSTOP')
    expect(await one.apply('add', [2, 2])).toBe(4)
    expect(isAlive(pid)).toBe(false)
  })

  it('that was stopped in a task is killed, and the task has crashed', async () => {
    await using one = new Pool(server.address, { processes: 1 })
    const { result, pid } = await waiting(one, file)
    process.kill(pid, 'SIGSTOP')
    const error = await errorOf(result.get())
    expect([error.reason, error.message]).toEqual(['WORKER_CRASHED', expect.stringContaining('SIGSTOP')])
  })

  it('that dies in a chunk: how many of its items had ended is known', async () => {
    const error = await errorOf(pool.map('dieAt', [0, 0, 0, 1, 0], { chunksize: 5 }))
    expect([error.reason, error.metadata['items_done']]).toEqual(['WORKER_CRASHED', '3'])
  })

  it.each([
    ['exits in a task', true, {}],
    ['is replaced after its tasks', false, { maxtasksperchild: 1 }],
  ] as const)('that %s takes along what its functions have started', async (_, dies, options) => {
    await using one = new Pool(server.address, { processes: 1, ...options })
    await one.apply('leaveChild', [file, dies]).catch(() => {})
    const child = Number(readFileSync(file, 'utf8'))
    await until(() => !isAlive(child), 'it is gone')
  })

  it('that exits between two tasks is replaced', async () => {
    await using one = new Pool(server.address, { processes: 1 })
    const pid = await one.apply('pid')
    await one.apply('exitNext', [1])
    await until(async () => (await one.info()).workers.some((worker) => worker.pid !== pid), 'another is there')
    expect(await one.apply('add', [1, 1])).toBe(2)
  })
})

describe('a task', () => {
  it('of which workers die before it begins fails, and others go on', async () => {
    // As where the kernel wants for memory: it dies while it receives what is large.
    const module = folder.path('frail.mjs')
    const frail = `import { Readable } from 'node:stream'
const { push } = Readable.prototype
Readable.prototype.push = function (piece, ...rest) {
  if (piece?.length > 10_000) process.kill(process.pid, 'SIGKILL')
  return push.call(this, piece, ...rest)
}
export const lengthOf = (text) => text.length
`
    writeFileSync(module, frail)
    await using dying = await ServerProcess.start(['--processes', '1'], [module])
    await using one = new Pool(dying.address)
    const error = await errorOf(one.apply('lengthOf', ['x'.repeat(1_000_000)]))
    expect([error.reason, error.started]).toEqual(['WORKER_CRASHED', true])
    expect(error.message).toContain('3 workers in a row died when they were given lengthOf; the last one')
    expect(await one.apply('lengthOf', ['xx'])).toBe(2)
  })
})
