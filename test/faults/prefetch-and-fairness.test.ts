import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { CancelledError, Pool, WorkerCrashedError } from 'farpool'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startFarm } from '../support/farm.js'
import { connectRaw, frame, message } from '../support/raw-call.js'
import { FUNCTIONS, ServerProcess, until } from '../support/server.js'

/** Workers prefetch short tasks (docs/explanation/architecture.md). Clients must see no difference except in time. */

const SHORT = 60
let folder: string
let pool: Pool
/** A file that exists, so that busyUntil does not wait. Its name has about the same length as the others. */
let there: string

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'farpool-test-'))
  there = join(folder, 'there')
  writeFileSync(there, '')
  pool = await Pool.local(FUNCTIONS, { processes: 2, graceMs: 200 })
})
afterAll(async () => {
  await pool.terminate()
  rmSync(folder, { recursive: true, force: true })
})

/** Calls a function until the pool knows that it is short, and prefetches it from then on. */
const warmUp = (name: string, args: unknown[], on = pool) =>
  Promise.all(Array.from({ length: 3_000 }, () => on.apply(name, args)))

const numbers = Array.from({ length: SHORT }, (_, i) => i)

describe('one long task of a function that is usually short', () => {
  it('does not delay the tasks after it', async () => {
    await warmUp('busyUntil', [there, 0])
    const file = join(folder, 'first')
    const long = pool.applyAsync('busyUntil', [file, 'long'])
    const shorts = numbers.map((i) => pool.apply('busyUntil', [there, i]))
    // The long task can end only after this.
    expect(await Promise.all(shorts)).toEqual(numbers)
    expect(long.ready()).toBe(false)
    writeFileSync(file, '')
    expect(await long.get()).toBe('long')
  })

  it('does not delay the results of the tasks before it on the same worker', async () => {
    await using own = await Pool.local(FUNCTIONS, { processes: 1 })
    await warmUp('busyUntil', [there, 0], own)
    const file = join(folder, 'after')
    const shorts = numbers.map((i) => own.apply('busyUntil', [there, i]))
    const long = own.applyAsync('busyUntil', [file, 'long'])
    expect(await Promise.all(shorts)).toEqual(numbers)
    expect(long.ready()).toBe(false)
    writeFileSync(file, '')
    expect(await long.get()).toBe('long')
  })

  it('goes on after the grace if prefetched tasks behind it were cancelled', async () => {
    await warmUp('busyUntil', [there, 0])
    const file = join(folder, 'other')
    const long = pool.applyAsync('busyUntil', [file, 'long'])
    const abort = new AbortController()
    const behind = numbers.map((i) => pool.apply('busyUntil', [there, i], undefined, { signal: abort.signal }))
    abort.abort()
    const outcomes = await Promise.allSettled(behind)
    expect(outcomes.every((o) => o.status === 'fulfilled' || o.reason instanceof CancelledError)).toBe(true)
    // Twice the grace, on the other worker.
    await pool.apply('busyFor', [400])
    writeFileSync(file, '')
    expect(await long.get()).toBe('long')
  })
})

describe('a worker that dies with prefetched tasks', () => {
  it('fails only the task that it ran, and the others run once elsewhere', async () => {
    await warmUp('appendOrDie', ['/dev/null', 'warm'])
    const file = join(folder, 'lines')
    const words = [...numbers.map((i) => `a${i}`), 'die', ...numbers.map((i) => `b${i}`)]
    const outcomes = await Promise.allSettled(words.map((word) => pool.apply('appendOrDie', [file, word])))
    const failed = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason] : []))
    expect(failed).toHaveLength(1)
    expect(failed[0]).toBeInstanceOf(WorkerCrashedError)
    expect(readFileSync(file, 'utf8').trim().split('\n').sort()).toEqual([...words].sort())
  })
})

describe('maxtasksperchild', () => {
  it('counts prefetched tasks', async () => {
    await using own = await Pool.local(FUNCTIONS, { processes: 2, maxtasksperchild: 50 })
    const pids = await Promise.all(Array.from({ length: 1_000 }, () => own.apply('pid')))
    const counts = new Map<unknown, number>()
    for (const pid of pids) counts.set(pid, (counts.get(pid) ?? 0) + 1)
    expect([...counts.values()].filter((count) => count > 50)).toEqual([])
    expect(counts.size).toBeGreaterThanOrEqual(20)
  })
})

describe('clients of one pool', () => {
  it('take turns: one call does not wait for the many calls of another client', async () => {
    await using farm = await startFarm({ args: ['--processes', '2'] })
    const { server, pool: greedy } = farm
    await using modest = new Pool(server.address)
    await modest.apply('identity', [0])
    let done = 0
    const many = Array.from({ length: 5_000 }, () =>
      greedy.apply('busyFor', [0.5]).then(() => {
        done++
      }),
    )
    // When the first has its result, the others are in the queue.
    await Promise.race(many)
    await modest.apply('identity', [1])
    expect(done).toBeLessThan(2_500)
    await Promise.all(many)
  })

  it('get equal time, not equal numbers of tasks', async () => {
    await using farm = await startFarm()
    const { server, pool: greedy } = farm
    await using modest = new Pool(server.address)
    await modest.apply('identity', [0])
    let done = 0
    const long = Array.from({ length: 60 }, () =>
      greedy.apply('busyFor', [60]).then(() => {
        done++
      }),
    )
    const all = Promise.allSettled(long)
    await Promise.race(long)
    const before = done
    // With a turn for each task, as many long tasks as short ones would run.
    await Promise.all(Array.from({ length: 40 }, () => modest.apply('busyFor', [1])))
    expect(done - before).toBeLessThan(20)
    await greedy.terminate()
    await all
  })

  it('are connections: many streams of one connection get no more time than one stream of another', async () => {
    await using server = await ServerProcess.start(['--processes', '1'])
    using many = connectRaw(server.address)
    using one = connectRaw(server.address)
    const calls = (count: number) =>
      frame(message('busyFor', Object.fromEntries(Array.from({ length: count }, (_, at) => [at + 1, [10]]))))
    const streams = Array.from({ length: 20 }, () => many.call())
    for (const stream of streams) stream.write(calls(20))
    const done = () => streams.reduce((sum, { outcomes }) => sum + outcomes.length, 0)
    await until(() => done() > 0, 'they are in the queue')
    const single = one.call()
    const before = done()
    single.write(calls(20))
    single.end()
    await single.ended
    expect(single.outcomes).toHaveLength(20)
    // With a share for each stream, far more calls of the other connection would run.
    expect(done() - before).toBeLessThan(40)
  })
})

describe('--max-running-per-client', () => {
  it('leaves a worker to other clients', async () => {
    await using server = await ServerProcess.start(['--processes', '2', '--max-running-per-client', '1'])
    using greedy = connectRaw(server.address)
    using modest = connectRaw(server.address)
    const file = join(folder, 'greedy')
    const streams = [greedy.call(), greedy.call()]
    for (const stream of streams)
      stream.write(frame(message('busyUntil', { 1: [file, 1], 2: [file, 2], 3: [file, 3] })))
    await using watching = new Pool(server.address)
    await until(async () => (await watching.info()).queued === 5, 'one of six runs')
    const call = modest.call()
    call.write(frame(message('identity', { 1: ['answered'] })))
    call.end()
    await call.ended
    expect(call.outcomes).toHaveLength(1)
    expect(await watching.info()).toMatchObject({ running: 1, queued: 5 })
    writeFileSync(file, '')
    for (const stream of streams) {
      stream.end()
      await stream.ended
      expect(stream.outcomes).toHaveLength(3)
    }
  })

  it('does not limit an owned pool', async () => {
    await using farm = await startFarm({
      args: ['--processes', '1', '--max-running-per-client', '1'],
      options: { processes: 2 },
    })
    const { pool: own } = farm
    const file = join(folder, 'own')
    const calls = [
      own.apply('waitFor', [join(folder, 'own-1'), file, 1]),
      own.apply('waitFor', [join(folder, 'own-2'), file, 2]),
    ]
    await until(() => [1, 2].every((at) => existsSync(join(folder, `own-${at}`))), 'both have begun')
    writeFileSync(file, '')
    expect(await Promise.all(calls)).toEqual([1, 2])
  })
})
