import { existsSync, writeFileSync } from 'node:fs'
import { Pool } from 'farpool'
import { describe, expect, it } from 'vitest'
import { sharedFarm } from '../support/farm.js'
import { FUNCTIONS, until } from '../support/server.js'

/** Calls and results of megabytes, in total more than all buffers hold. */

const MIB = 1024 * 1024

const farm = sharedFarm({ args: ['--processes', '2', '--max-message-bytes', String(16 * MIB)] })

const bytes = (length: number) => new Uint8Array(length)
const isRight = (value: unknown, length: number) => value instanceof Uint8Array && value.length === length

describe('a map over JSON', () => {
  it('divides a chunk that is longer than any text may be', async () => {
    await using pool = await Pool.local(FUNCTIONS, { processes: 1, encoding: 'json' })
    const text = 'x'.repeat(270 * MIB)
    expect(await pool.map('lengthOf', [text, 'y', text], { chunksize: 3 })).toEqual([text.length, 1, text.length])
  })
})

describe('a session', () => {
  it('completes a map of 100 chunks of 4 MiB', async () => {
    await using pool = new Pool(farm.address)
    const items = Array.from({ length: 100 }, () => bytes(4 * MIB))
    const results = await pool.map('identity', items, { chunksize: 1 })
    expect(results.filter((value) => isRight(value, 4 * MIB))).toHaveLength(items.length)
  })

  it('completes 40 calls of 8 MiB at once', async () => {
    await using pool = new Pool(farm.address)
    await pool.apply('add', [1, 2])
    const calls = Array.from({ length: 40 }, () => pool.apply('identity', [bytes(8 * MIB)]))
    expect((await Promise.all(calls)).filter((value) => isRight(value, 8 * MIB))).toHaveLength(calls.length)
  })

  it.each<[string, boolean, unknown[], string]>([
    ['larger than a message may be', true, [bytes(20 * MIB)], 'PAYLOAD_TOO_LARGE'],
    ['far larger', true, [bytes(80 * MIB)], 'PAYLOAD_TOO_LARGE'],
    ['with more arguments than a message may have', true, Array(300_000).fill(0), 'BAD_REQUEST'],
    ['the first of its session', false, [bytes(20 * MIB)], 'PAYLOAD_TOO_LARGE'],
  ])('refuses only the call that is %s', async (name, isWarm, args, reason) => {
    await using pool = new Pool(farm.address)
    if (isWarm) await pool.apply('add', [1, 2])
    const [begun, go] = [farm.path(`${name} begun`), farm.path(`${name} go`)]
    const other = pool.applyAsync('waitFor', [begun, go, 'went on'])
    const refused = pool.apply('identity', args)
    await expect(refused).rejects.toMatchObject({ reason, started: false })
    await until(() => existsSync(begun), 'the other one runs')
    writeFileSync(go, '')
    expect(await other).toBe('went on')
  })

  it('completes a thousand calls of 500 arguments', async () => {
    await using pool = new Pool(farm.address)
    const args = Array(500).fill(1)
    const calls = Array.from({ length: 1_000 }, () => pool.apply('collect', args))
    for (const result of await Promise.all(calls)) expect(result).toEqual(args)
  })
})
