import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { Pool } from 'farpool'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { runClient } from '../support/client.js'
import { sharedFarm } from '../support/farm.js'
import { FUNCTIONS, isAlive, temporaryFolder, until } from '../support/server.js'

let folder: ReturnType<typeof temporaryFolder>
beforeEach(() => {
  folder = temporaryFolder()
})
afterEach(() => folder.remove())

const localFolders = () =>
  readdirSync(tmpdir()).filter((name) => name.startsWith('farpool-') && !name.startsWith('farpool-test-'))

describe('an owned pool', () => {
  const farm = sharedFarm()

  it('lets its program exit after close()', async () => {
    const client = runClient(
      `const pool = new Pool(${JSON.stringify(farm.address)}, { processes: 1 })
       pool.apply('add', [1, 2]).then(console.log)
       pool.close()`,
    )
    const output = await new Promise((resolve) => client.stdout?.once('data', (data) => resolve(String(data))))
    const code = await new Promise((resolve) => client.once('exit', resolve))
    expect([output, code]).toEqual(['3\n', 0])
  })
})

describe('Pool.local', () => {
  it('passes its options on, with initargs of every type', async () => {
    await using pool = await Pool.local(FUNCTIONS, {
      processes: 1,
      initializer: 'initialize',
      initargs: [new Date(5), 2n ** 60n],
    })
    expect(await pool.apply('initializedWith')).toEqual([new Date(5), 2n ** 60n])
  })

  it.each([
    [{ initializer: 'failToInitialize' }, 'INITIALIZER_FAILED', /no licence/],
    [{ initializer: 'noSuchFunction' }, 'INITIALIZER_FAILED', /"noSuchFunction" is not exported/],
    [{ processes: 0 }, 'BAD_REQUEST', /processes is 0/],
  ])('fails to start with %o: %s', async (options, reason, message) => {
    const before = localFolders()
    await expect(Pool.local(FUNCTIONS, options)).rejects.toMatchObject({
      reason,
      message: expect.stringMatching(message),
    })
    await until(() => localFolders().length === before.length, 'its folder is gone')
  })

  it('ends with its program: its workers and its folder are gone', async () => {
    const before = localFolders()
    const client = runClient(
      `const pool = await Pool.local(${JSON.stringify(FUNCTIONS)}, { processes: 2, logLevel: 'silent' })
       const { workers } = await pool.info()
       console.log(JSON.stringify(workers.map(({ pid }) => pid)))
       await pool.apply('spin')`,
    )
    const pids: number[] = JSON.parse(
      await new Promise((resolve) => client.stdout?.once('data', (data) => resolve(String(data)))),
    )
    client.kill('SIGKILL')
    await until(() => !pids.some(isAlive) && localFolders().length === before.length, 'all is gone')
  })

  it('ends with its program also while an initializer runs', async () => {
    const file = folder.path('initializing')
    const client = runClient(
      `await Pool.local(${JSON.stringify(FUNCTIONS)}, { initializer: 'hangWhileInitializing', initargs: [${JSON.stringify(file)}], processes: 1 })`,
    )
    await until(() => existsSync(file), 'the worker is in its initializer')
    const pid = Number(readFileSync(file, 'utf8'))
    client.kill('SIGKILL')
    await until(() => !isAlive(pid), 'its worker is gone')
  })

  it('does not keep its program alive', async () => {
    const client = runClient(
      `const pool = await Pool.local(${JSON.stringify(FUNCTIONS)}, { processes: 1, logLevel: 'silent' })
       console.log(JSON.stringify((await pool.info()).workers.map(({ pid }) => pid)))`,
    )
    const pids: number[] = JSON.parse(
      await new Promise((resolve) => client.stdout?.once('data', (data) => resolve(String(data)))),
    )
    expect(await new Promise((resolve) => client.once('exit', resolve))).toBe(0)
    await until(() => !pids.some(isAlive), 'its workers are gone')
  })
})
