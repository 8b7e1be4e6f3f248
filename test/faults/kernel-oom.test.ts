import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { Pool, WorkerCrashedError } from 'farpool'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { errorOf, waiting } from '../support/calls.js'
import { type Farm, startFarm } from '../support/farm.js'
import { MemoryGroup, whyNoMemoryGroup } from '../support/memory-group.js'
import { FUNCTIONS, isAlive, ServerProcess, until } from '../support/server.js'

/** A server in a control group with little memory, and functions that use more. */

const MIB = 512
const why = whyNoMemoryGroup()

/** The error of a call whose worker the kernel has killed. */
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

describe.skipIf(why !== '')(`a container without free memory${why}`, () => {
  let group: MemoryGroup
  let farm: Farm
  let pool: Pool
  let file = ''
  beforeAll(async () => {
    group = new MemoryGroup(MIB)
    farm = await startFarm({ args: ['--processes', '3'], prefix: group.prefix })
    pool = farm.pool
  })
  beforeEach(() => {
    file = farm.fresh()
  })
  afterAll(async () => {
    await farm?.[Symbol.asyncDispose]()
    await group?.[Symbol.asyncDispose]()
  })

  const pids = async () => (await pool.info()).workers.map(({ pid }) => pid)

  it('loses the worker that used it: its call fails with WORKER_OOM, and other calls go on', async () => {
    const { result, pid } = await waiting(pool, file)
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

  it('runs a call with retries again until they are used up', async () => {
    expect(await pool.apply('eatUntilAttempt', [2], undefined, { retries: 1 })).toBe(2)
    expect(await errorOf(pool.apply('eatUntilAttempt', [3], undefined, { retries: 1 }))).toMatchObject(
      endedByKernel('2'),
    )
    expect(await pool.apply('add', [1, 2])).toBe(3)
  })

  it('fails each call with WORKER_OOM if two workers were killed at the same time', async () => {
    const [one, two] = [pool.applyAsync('eatMemory', [file]), pool.applyAsync('eatMemory', [file])]
    let eaters: number[] = []
    await until(async () => {
      const { workers } = await pool.info()
      eaters = workers.filter((worker) => worker.function === 'eatMemory').map(({ pid }) => pid)
      return eaters.length === 2
    }, 'both run')
    farm.server.signal('SIGSTOP')
    writeFileSync(file, '')
    await until(() => eaters.every(isDead), 'both are dead').finally(() => farm.server.signal('SIGCONT'))
    expect(await errorOf(one)).toMatchObject(endedByKernel('1'))
    expect(await errorOf(two)).toMatchObject(endedByKernel('1'))
    expect(await pool.apply('add', [1, 2])).toBe(3)
  })

  it('takes no kill of another shared pool for its own', async () => {
    const config = farm.fresh()
    const modules = `modules: [${JSON.stringify(FUNCTIONS)}]`
    writeFileSync(config, `${modules}\nprocesses: 1\npools: { other: { ${modules} } }\n`)
    await using own = new MemoryGroup(MIB)
    await using server = await ServerProcess.start(['--config', config], [], own.prefix)
    await using other = new Pool(server.address, { pool: 'other' })
    await using mine = new Pool(server.address)
    const { result, pid } = await waiting(mine, file)
    expect(await errorOf(other.apply('eatMemory'))).toMatchObject(endedByKernel('1'))
    process.kill(pid, 'SIGKILL')
    expect(await errorOf(result)).toMatchObject({ reason: 'WORKER_CRASHED', metadata: { signal: 'SIGKILL' } })
  })

  it('fails a call with WORKER_CRASHED if its worker was killed for another reason', async () => {
    const { result, pid } = await waiting(pool, file)
    await using other = new MemoryGroup(64)
    const [command = '', ...args] = other.prefix
    const eater = 'const kept = []; for (;;) kept.push(Buffer.alloc(8 << 20, 1))'
    const child = spawn(command, [...args, process.execPath, '-e', eater], { stdio: 'ignore' })
    expect(await once(child, 'exit')).toEqual([null, 'SIGKILL'])
    process.kill(pid, 'SIGKILL')
    expect(await errorOf(result)).toMatchObject({ reason: 'WORKER_CRASHED', metadata: { signal: 'SIGKILL' } })
  })
})
