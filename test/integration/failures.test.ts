import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { type FarpoolError, Pool, TimeoutError, WorkerCrashedError } from 'farpool'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { childrenOf } from '../chaos/processes.js'
import { FUNCTIONS, farpool, isAlive, ServerProcess, temporaryFolder, until } from '../support/server.js'

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

let files = 0
let file = ''
beforeEach(() => {
  file = folder.path(`file-${++files}`)
})

const errorOf = async (call: Promise<unknown>): Promise<FarpoolError> =>
  call.then(
    () => expect.unreachable(),
    (error: FarpoolError) => error,
  )
const lines = (path: string) => (existsSync(path) ? readFileSync(path, 'utf8').split('\n').length - 1 : 0)
const initializedBy = (initializer: string, initargs = JSON.stringify([file])) => [
  ...['--processes', '1', '--drain', '100'],
  ...['--initializer', initializer, '--initargs', initargs],
]
/** A worker that has begun to wait for `${file}.go`. */
const waiting = async (from: Pool) => {
  const result = from.applyAsync('waitFor', [file, `${file}.go`, 'went on'])
  await until(() => lines(file) === 1, 'it has begun')
  return { result, pid: Number(readFileSync(file, 'utf8')) }
}

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
    const { result, pid } = await waiting(one)
    process.kill(pid, 'SIGSTOP')
    const error = await errorOf(result.get())
    expect([error.reason, error.message]).toEqual(['WORKER_CRASHED', expect.stringContaining('SIGSTOP')])
  })

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
    await one.apply('exitLater', [1])
    await until(async () => (await one.info()).workers.some((worker) => worker.pid !== pid), 'another is there')
    expect(await one.apply('add', [1, 1])).toBe(2)
  })
})

describe('a pool whose workers come to die as soon as they start', () => {
  it('says so in health and GetPool, refuses calls, and recovers', async () => {
    await using failing = await ServerProcess.start(initializedBy('refuseWhile'))
    await using shared = new Pool(failing.address)
    writeFileSync(file, '')
    process.kill((await shared.apply('pid')) as number, 'SIGKILL')
    await until(async () => (await shared.info()).state === 'broken', 'it is broken')
    expect((await farpool(['health', '--address', failing.address])).stdout).toContain('NOT_SERVING')
    const error = await errorOf(shared.apply('add', [1, 1], undefined, { timeout: 300 }))
    expect([error.reason, error.started]).toEqual(['NO_WORKERS', false])
    expect((await shared.info()).failure?.message).toMatch(/^\d+ workers in a row died before they were ready/)
    rmSync(file)
    await until(async () => (await shared.info()).state === 'open', 'it has recovered')
    expect((await farpool(['health', '--address', failing.address])).stdout).toContain('SERVING')
    expect(await shared.apply('add', [1, 1])).toBe(2)
  })
})

describe('times that no timer can hold', () => {
  it('are long: nothing is killed at once, also while the server drains', async () => {
    const times = ['--grace', '--drain', '--run-timeout', '--start-timeout'].flatMap((name) => [name, '3000000000'])
    await using patient = await ServerProcess.start(['--processes', '1', ...times])
    await using one = new Pool(patient.address)
    const pid = await one.apply('pid')
    const given = one.applyAsync('busyUntil', [`${file}.go`])
    await until(async () => (await one.info()).running === 1, 'it runs')
    given.cancel()
    const result = one.applyAsync('waitFor', [file, `${file}.end`, 'went on'])
    writeFileSync(`${file}.go`, '')
    await until(() => lines(file) === 1, 'the next has begun')
    expect(Number(readFileSync(file, 'utf8'))).toBe(pid)
    patient.signal('SIGTERM')
    await patient.logged(({ msg }) => msg === 'waiting for calls in flight')
    writeFileSync(`${file}.end`, '')
    expect(await result).toBe('went on')
    expect(await patient.exited).toBe(0)
    expect(patient.log.filter(({ msg }) => /Overflow|still in flight/.test(msg))).toEqual([])
  })
})

describe('a chunk whose items become slow', () => {
  it('hears between two of them that it was given up, and its worker lives', async () => {
    await using patient = await ServerProcess.start(['--processes', '1', '--grace', '3000'])
    await using one = new Pool(patient.address)
    const pid = await one.apply('pid')
    const items = [...Array(1_500).fill(''), ...Array(500).fill(file)]
    const result = one.mapAsync('slowWith', items, { chunksize: items.length })
    await until(() => lines(file) > 0, 'it has come to the slow ones')
    result.cancel()
    expect(await one.apply('pid')).toBe(pid)
    expect(lines(file)).toBeLessThan(500)
  })
})

describe('a pool whose initializer comes to fail', () => {
  it('is broken for that reason, and recovers by itself', async () => {
    await using failing = await ServerProcess.start(initializedBy('throwWhile'))
    await using shared = new Pool(failing.address)
    writeFileSync(file, '')
    process.kill((await shared.apply('pid')) as number, 'SIGKILL')
    await until(async () => (await shared.info()).state === 'broken', 'it is broken')
    expect((await shared.info()).failure?.reason).toBe('INITIALIZER_FAILED')
    expect((await farpool(['health', '--address', failing.address])).stdout).toContain('NOT_SERVING')
    const error = await errorOf(shared.apply('add', [1, 1], undefined, { timeout: 300 }))
    expect([error.reason, error.started]).toEqual(['INITIALIZER_FAILED', false])
    rmSync(file)
    await until(async () => (await shared.info()).state === 'open', 'it has recovered')
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
    const runs = folder.path(`runs-${files}`)
    const error = await errorOf(shared.apply('dieAndBlock', [runs, file], undefined, { retries: 1 }))
    expect([error.reason, error.started]).toEqual(['WORKER_CRASHED', true])
    expect(error.message).toContain('it did not run again: 3 workers in a row died before they were ready')
    expect(lines(runs)).toBe(1)
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

  it('that waits for another try waits as long as it may wait', async () => {
    await using failing = await ServerProcess.start([...initializedBy('stopOnce')])
    await using one = new Pool(failing.address)
    const runs = folder.path(`runs-${files}`)
    const error = await errorOf(one.apply('dieAndBlock', [runs, file], undefined, { retries: 1, queueTimeout: 200 }))
    expect([error.reason, error.started, error.metadata['phase']]).toEqual(['TASK_TIMEOUT', true, 'queued'])
    expect(lines(runs)).toBe(1)
  })
})

describe('what a module says about a function', () => {
  it('retries: it runs again, unless the call says otherwise', async () => {
    expect(await pool.apply('twiceRetried', [3])).toBe(3)
    expect((await errorOf(pool.apply('twiceRetried', [3], undefined, { retries: 1 }))).metadata['attempt']).toBe('2')
  })

  it('runTimeout: it ends, also in an endless loop', async () => {
    const error = await errorOf(pool.apply('atMost100ms'))
    expect(error).toBeInstanceOf(TimeoutError)
    expect([error.started, error.metadata]).toEqual([true, { phase: 'running', limit_ms: '100' }])
  })

  it("kill 'never': its process lives on until it ends, and takes no other task meanwhile", async () => {
    await using one = new Pool(server.address, { processes: 1 })
    const pid = await one.apply('pid')
    expect((await errorOf(one.apply('neverKilled', [file, 500], undefined, { runTimeout: 20 }))).reason).toBe(
      'TASK_TIMEOUT',
    )
    expect(await one.apply('pid')).toBe(pid)
    expect(readFileSync(file, 'utf8')).toBe(`${pid}\n`)
  })

  it('is listed', async () => {
    const found = (await pool.functions()).filter(({ name }) => ['twiceRetried', 'neverKilled', 'add'].includes(name))
    expect(found).toMatchObject([
      { name: 'add', retries: 0, neverKilled: false },
      { name: 'neverKilled', neverKilled: true },
      { name: 'twiceRetried', retries: 2 },
    ])
  })

  it.each([
    ['{ retries: -1 }', 'its retries are -1; they must be an integer, 0 or more'],
    ['{ runTimeout: 1.5 }', 'its runTimeout is 1.5; it must be a whole number of milliseconds'],
    ["{ kill: 'now' }", `its kill is "now"; it must be 'after-grace' or 'never'`],
    ['{ retrys: 1 }', 'it has an option retrys; there are retries, runTimeout and kill'],
    ['1', 'its options are 1; they must be an object'],
  ])('is checked when the server starts: %s', async (options, message) => {
    const module = folder.path(`wrong-${files}.mjs`)
    writeFileSync(module, `export const f = Object.assign(() => 1, { farpool: ${options} })\n`)
    const { code, stderr } = await farpool(['serve', module, '--listen', '127.0.0.1:0'])
    expect([code, stderr]).toEqual([1, expect.stringContaining(message)])
  })
})

describe('a map of many chunks', () => {
  it('that is given up, ends once, however many there are', async () => {
    await using many = new Pool(server.address)
    const items = Array.from({ length: 50_000 }, (_, at) => at)
    const result = many.mapAsync('square', items, { chunksize: 1 })
    await many.apply('identity', [0])
    await many.terminate()
    await expect(result.get()).rejects.toMatchObject({
      name: expect.stringMatching(/^(PoolTerminated|Cancelled)Error$/),
    })
  })
})

describe('a call', () => {
  it('has a time to wait and a time to run, each for itself', async () => {
    await using one = new Pool(server.address, { processes: 1 })
    const { result } = await waiting(one)
    const queued = await errorOf(one.apply('add', [1, 1], undefined, { queueTimeout: 30, runTimeout: 10_000 }))
    expect([queued.reason, queued.started, queued.metadata['phase']]).toEqual(['TASK_TIMEOUT', false, 'queued'])
    const behind = one.applyAsync('spin', [], undefined, { queueTimeout: 60_000, runTimeout: 30 })
    writeFileSync(`${file}.go`, '')
    expect(await result).toBe('went on')
    const ran = await errorOf(behind.get())
    expect([ran.reason, ran.started, ran.metadata['phase']]).toEqual(['TASK_TIMEOUT', true, 'running'])
  })

  it.each(['stream', 'unary'] as const)(
    'is cancelled by its result: waiting, running, in a loop (%s)',
    async (transport) => {
      await using one = new Pool(server.address, { processes: 1, transport })
      const spinning = one.applyAsync('spin')
      const queued = one.applyAsync('add', [1, 1])
      const mapped = one.mapAsync('square', [1, 2, 3])
      await until(async () => (await one.info()).running === 1, 'it runs')
      for (const result of [queued, mapped, spinning]) {
        expect([result.ready(), result.cancel()]).toEqual([false, true])
        expect((await errorOf(result.get() as Promise<unknown>)).reason).toBe('CANCELLED')
        expect(result.cancel()).toBe(false)
      }
      expect(await one.apply('add', [1, 2])).toBe(3)
    },
  )
})

describe('a server that is killed', () => {
  it('leaves no worker, also none that is in a loop, and no file of its socket', async () => {
    const socket = folder.path('killed.sock')
    const killed = await ServerProcess.start(['--processes', '2', '--listen', `unix:${socket}`])
    const client = new Pool(`unix:${socket}`)
    const pids = (await client.info()).workers.map(({ pid }) => pid)
    client.applyAsync('spin')
    await until(async () => (await client.info()).running === 1, 'it runs')
    killed.signal('SIGKILL')
    await until(() => !existsSync(socket) && !pids.some(isAlive), 'nothing is left')
    await client.terminate()
  })

  it('leaves no worker also where its guard was killed before', async () => {
    const socket = folder.path('unguarded.sock')
    const killed = await ServerProcess.start(['--processes', '1', '--listen', `unix:${socket}`])
    const client = new Pool(`unix:${socket}`)
    const [worker] = (await client.info()).workers
    const guard = () => childrenOf(killed.pid).find((pid) => pid !== worker?.pid)
    const first = guard()
    process.kill(first ?? 0, 'SIGKILL')
    await until(() => guard() !== undefined && guard() !== first, 'there is another')
    client.applyAsync('spin')
    await until(async () => (await client.info()).running === 1, 'it runs')
    killed.signal('SIGKILL')
    await until(() => !existsSync(socket) && !isAlive(worker?.pid ?? 0), 'nothing is left')
    await client.terminate()
  })

  it('does not take the file of the server that came after it', async () => {
    const socket = folder.path('taken.sock')
    const killed = await ServerProcess.start(['--listen', `unix:${socket}`])
    rmSync(socket)
    await using next = await ServerProcess.start(['--listen', `unix:${socket}`])
    killed.signal('SIGKILL')
    await killed.exited
    await using client = new Pool(next.address)
    expect(await client.apply('add', [1, 1])).toBe(2)
    expect(existsSync(socket)).toBe(true)
  })
})
