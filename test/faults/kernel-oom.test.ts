import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { Pool, WorkerCrashedError } from 'farpool'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { errorOf } from '../support/calls.js'
import { MemoryGroup, whyNoMemoryGroup } from '../support/memory-group.js'
import { isAlive, ServerProcess, temporaryFolder, until } from '../support/server.js'

/** A real server in a control group that has little memory, and functions that take more than there is. */

const MIB = 512
const why = whyNoMemoryGroup()

/** What is true of a call whose worker the kernel has ended. */
const endedByKernel = (attempt: string) => ({
  reason: 'WORKER_OOM',
  started: true,
  metadata: { memory: 'kernel', signal: 'SIGKILL', attempt, pid: expect.stringMatching(/^\d+$/) },
})

const isDead = (pid: number) => {
  try {
    return /^\d+ \(.*\) Z /s.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return true
  }
}

describe.skipIf(why !== '')(`where the memory of a container runs out${why}`, () => {
  let folder: ReturnType<typeof temporaryFolder>
  let group: MemoryGroup
  let server: ServerProcess
  let pool: Pool
  let files = 0
  let file = ''
  beforeAll(async () => {
    folder = temporaryFolder()
    group = new MemoryGroup(MIB)
    server = await ServerProcess.start(['--processes', '3'], undefined, group.prefix)
    pool = new Pool(server.address)
  })
  beforeEach(() => {
    file = folder.path(`file-${++files}`)
  })
  afterAll(async () => {
    await pool?.terminate()
    await server?.[Symbol.asyncDispose]()
    await group?.[Symbol.asyncDispose]()
    folder.remove()
  })

  const pids = async () => (await pool.info()).workers.map(({ pid }) => pid)
  /** A call that runs and goes on until the file `${file}.go` is there, and its worker. */
  const waiting = async () => {
    const result = pool.applyAsync('waitFor', [file, `${file}.go`, 'went on'])
    await until(async () => (await pool.info()).workers.some((worker) => worker.function === 'waitFor'), 'it runs')
    await until(() => existsSync(file) && readFileSync(file, 'utf8').endsWith('\n'), 'it has begun')
    return { result, pid: Number(readFileSync(file, 'utf8')) }
  }

  it('the kernel takes the worker that eats it; the call says so, and all else goes on', async () => {
    const { result, pid } = await waiting()
    const before = await pids()
    const error = await errorOf(pool.apply('eatMemory'))
    expect(error).toBeInstanceOf(WorkerCrashedError)
    expect(error).toMatchObject(endedByKernel('1'))
    expect(error.message).toContain('was killed by the kernel')
    const eater = Number(error.metadata['pid'])
    expect([before.includes(eater), isAlive(eater)]).toEqual([true, false])
    await until(async () => !(await pids()).includes(eater) && (await pids()).length === 3, 'it has been replaced')
    expect((await pids()).filter((other) => before.includes(other)).sort()).toEqual(
      before.filter((other) => other !== eater).sort(),
    )
    expect(await pool.map('square', [1, 2, 3])).toEqual([1, 4, 9])
    writeFileSync(`${file}.go`, '')
    expect(await result).toBe('went on')
    expect(await pids()).toContain(pid)
  })

  it('a call with retries runs again, and fails when they are used up', async () => {
    expect(await pool.apply('eatUntilAttempt', [2], undefined, { retries: 1 })).toBe(2)
    expect(await errorOf(pool.apply('eatUntilAttempt', [3], undefined, { retries: 1 }))).toMatchObject(
      endedByKernel('2'),
    )
    expect(await pool.apply('add', [1, 2])).toBe(3)
  })

  it('of workers that ended while the server was not looking, each has ended so', async () => {
    const [one, two] = [pool.applyAsync('eatMemory', [file]), pool.applyAsync('eatMemory', [file])]
    let eaters: number[] = []
    await until(async () => {
      const { workers } = await pool.info()
      eaters = workers.filter((worker) => worker.function === 'eatMemory').map(({ pid }) => pid)
      return eaters.length === 2
    }, 'both run')
    server.signal('SIGSTOP')
    writeFileSync(file, '')
    await until(() => eaters.every(isDead), 'both are dead').finally(() => server.signal('SIGCONT'))
    expect(await errorOf(one)).toMatchObject(endedByKernel('1'))
    expect(await errorOf(two)).toMatchObject(endedByKernel('1'))
    expect(await pool.apply('add', [1, 2])).toBe(3)
  })

  it('a worker that somebody else killed has not ended so, though the kernel ended another process elsewhere', async () => {
    const { result, pid } = await waiting()
    await using other = new MemoryGroup(64)
    const [command = '', ...args] = other.prefix
    const eater = 'const kept = []; for (;;) kept.push(Buffer.alloc(8 << 20, 1))'
    const child = spawn(command, [...args, process.execPath, '-e', eater], { stdio: 'ignore' })
    expect(await once(child, 'exit')).toEqual([null, 'SIGKILL'])
    process.kill(pid, 'SIGKILL')
    expect(await errorOf(result)).toMatchObject({ reason: 'WORKER_CRASHED', metadata: { signal: 'SIGKILL' } })
  })
})
