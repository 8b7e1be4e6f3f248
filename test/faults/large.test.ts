import { existsSync, writeFileSync } from 'node:fs'
import { Pool } from 'farpool'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ServerProcess, temporaryFolder, until } from '../support/server.js'

/** Calls and results of megabytes, more of them than any buffer holds. */

const MIB = 1024 * 1024

let server: ServerProcess
const folder = temporaryFolder()
beforeAll(async () => {
  server = await ServerProcess.start(['--processes', '2', '--max-message-bytes', String(16 * MIB)])
})
afterAll(async () => {
  await server[Symbol.asyncDispose]()
  folder.remove()
})

const bytes = (length: number) => new Uint8Array(length)
const isRight = (value: unknown, length: number) => value instanceof Uint8Array && value.length === length

describe('over one session', () => {
  it('a map of large items, a chunk each, comes to its end without anybody else', async () => {
    await using pool = new Pool(server.address)
    const items = Array.from({ length: 100 }, () => bytes(4 * MIB))
    const results = await pool.map('identity', items, { chunksize: 1 })
    expect(results.filter((value) => isRight(value, 4 * MIB))).toHaveLength(items.length)
  })

  it('large calls with large results, many at once, are all answered', async () => {
    await using pool = new Pool(server.address)
    await pool.apply('add', [1, 2])
    const calls = Array.from({ length: 40 }, () => pool.apply('identity', [bytes(8 * MIB)]))
    expect((await Promise.all(calls)).filter((value) => isRight(value, 8 * MIB))).toHaveLength(calls.length)
  })

  it.each<[string, boolean, unknown[], string]>([
    ['larger than a message may be', true, [bytes(20 * MIB)], 'PAYLOAD_TOO_LARGE'],
    ['far larger', true, [bytes(80 * MIB)], 'PAYLOAD_TOO_LARGE'],
    ['with more arguments than a message may have', true, Array(300_000).fill(0), 'BAD_REQUEST'],
    ['the first of its session', false, [bytes(20 * MIB)], 'PAYLOAD_TOO_LARGE'],
  ])('a call that is %s fails alone', async (name, isWarm, args, reason) => {
    await using pool = new Pool(server.address)
    if (isWarm) await pool.apply('add', [1, 2])
    const [begun, go] = [folder.path(`${name} begun`), folder.path(`${name} go`)]
    const other = pool.applyAsync('waitFor', [begun, go, 'went on'])
    const refused = pool.apply('identity', args)
    await expect(refused).rejects.toMatchObject({ reason, started: false })
    await until(() => existsSync(begun), 'the other one runs')
    writeFileSync(go, '')
    expect(await other).toBe('went on')
  })

  it('a thousand calls of many arguments each are all answered', async () => {
    await using pool = new Pool(server.address)
    const args = Array(500).fill(1)
    const calls = Array.from({ length: 1_000 }, () => pool.apply('collect', args))
    for (const result of await Promise.all(calls)) expect(result).toEqual(args)
  })
})
