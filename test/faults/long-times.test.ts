import { readFileSync, writeFileSync } from 'node:fs'
import { beforeEach, describe, expect, it } from 'vitest'
import { linesOf } from '../support/calls.js'
import { sharedFarm, startFarm } from '../support/farm.js'
import { until } from '../support/server.js'

/** Long graces, and times above 2^31 ms, which no timer can hold. */

const farm = sharedFarm({ args: ['--processes', '2', '--grace', '50'] })

let file = ''
beforeEach(() => {
  file = farm.fresh()
})

describe('a chunk whose items become slow', () => {
  it('stops between two items when it is cancelled, and its worker lives', async () => {
    await using farm = await startFarm({ args: ['--processes', '1', '--grace', '3000'] })
    const { pool: one } = farm
    const pid = await one.apply('pid')
    const items = [...Array(1_500).fill(''), ...Array(500).fill(file)]
    const result = one.mapAsync('slowWith', items, { chunksize: items.length })
    await until(() => linesOf(file) > 0, 'it has come to the slow ones')
    result.cancel()
    expect(await one.apply('pid')).toBe(pid)
    expect(linesOf(file)).toBeLessThan(500)
  })
})

describe('a server with times of 3,000,000,000 ms', () => {
  it('kills nothing early, also while it drains', async () => {
    const times = ['--grace', '--drain', '--run-timeout', '--start-timeout'].flatMap((name) => [name, '3000000000'])
    await using farm = await startFarm({ args: ['--processes', '1', ...times] })
    const { server: patient, pool: one } = farm
    const pid = await one.apply('pid')
    const given = one.applyAsync('busyUntil', [`${file}.go`])
    await until(async () => (await one.info()).running === 1, 'it runs')
    given.cancel()
    const result = one.applyAsync('waitFor', [file, `${file}.end`, 'went on'])
    writeFileSync(`${file}.go`, '')
    await until(() => linesOf(file) === 1, 'the next has begun')
    expect(Number(readFileSync(file, 'utf8'))).toBe(pid)
    patient.signal('SIGTERM')
    await patient.logged(({ msg }) => msg === 'waiting for calls in flight')
    writeFileSync(`${file}.end`, '')
    expect(await result).toBe('went on')
    expect(await patient.exited).toBe(0)
    expect(patient.log.filter(({ msg }) => /Overflow|still in flight/.test(msg))).toEqual([])
  })
})

describe('a client with a timeout of 3,000,000,000 ms', () => {
  it('waits for its result', async () => {
    await using farm = await startFarm()
    const { pool } = farm
    expect(await pool.imap('busyFor', [50]).next(3_000_000_000)).toMatchObject({ done: false })
    expect(await pool.applyAsync('add', [1, 2]).get(Number.POSITIVE_INFINITY)).toBe(3)
  })
})
