import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { Pool } from 'farpool'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { Host } from '../chaos/network.js'
import { errorOf } from '../support/calls.js'
import { type ServerProcess, temporaryFolder, until } from '../support/server.js'
import { isNowhere, notHere, serveOn, VANISHED_MS } from './hosts.js'

/** Networks that carry nothing for a while, or reset connections. */

const ITEMS = Array.from({ length: 40 }, (_, item) => item)

describe.skipIf(isNowhere)(`a network between client and server${notHere}`, () => {
  let folder: ReturnType<typeof temporaryFolder>
  let files = 0
  let file = ''
  let host: Host
  let server: ServerProcess
  beforeAll(() => {
    folder = temporaryFolder()
  })
  beforeEach(async () => {
    file = folder.path(`file-${++files}`)
    host = await Host.join(11)
    server = await serveOn(host, '--processes', '2', '--grace', '200')
  })
  afterEach(async () => {
    await server?.[Symbol.asyncDispose]()
    await host?.[Symbol.asyncDispose]()
  })
  afterAll(() => folder.remove())

  const lines = (path: string) => (existsSync(path) ? readFileSync(path, 'utf8').split('\n').slice(0, -1) : [])
  /** Calls of every kind: two that run, the others behind them. Each execution leaves a line. */
  const begin = async (pool: Pool) => {
    const running = [1, 2].map((call) => pool.applyAsync('waitFor', [`${file}.begun`, `${file}.go`, call]))
    await until(() => lines(`${file}.begun`).length === 2, 'two run')
    const results = [
      ...running,
      ...ITEMS.map((item) => pool.applyAsync('appendLine', [file, `apply ${item}`])),
      pool.starmapAsync(
        'appendLine',
        ITEMS.map((item) => [file, `map ${item}`]),
        { chunksize: 3 },
      ),
    ]
    await until(async () => (await pool.info()).queued === ITEMS.length + Math.ceil(ITEMS.length / 3), 'all wait')
    return results
  }
  const executed = [...ITEMS.map((item) => `apply ${item}`), ...ITEMS.map((item) => `map ${item}`)].sort()
  const outcomes = [1, 2, ...ITEMS.map((item) => `apply ${item}`), ITEMS.map((item) => `map ${item}`)]

  it.each(['stream', 'unary'] as const)(
    'that is partitioned while all calls run loses no outcome and runs no call twice (%s)',
    async (transport) => {
      await using pool = new Pool(server.address, { transport })
      const results = await begin(pool)
      await host.unplug()
      writeFileSync(`${file}.go`, '')
      await until(() => lines(file).length === executed.length, 'all is done')
      const meanwhile = pool.applyAsync('add', [1, 2])
      expect(results.some((result) => result.ready())).toBe(false)
      await host.plug()
      expect(await Promise.all(results)).toEqual(outcomes)
      expect(await meanwhile).toBe(3)
      expect(lines(file).sort()).toEqual(executed)
    },
  )

  it('that resets a connection loses no call of a stream and runs none twice', async ({ skip }) => {
    await using pool = new Pool(server.address)
    const results = await begin(pool)
    if (!(await host.reset())) skip('the kernel ends no connections (ss -K)')
    writeFileSync(`${file}.go`, '')
    expect(await Promise.all(results)).toEqual(outcomes)
    expect(lines(file).sort()).toEqual(executed)
  })

  it(
    'that is partitioned for longer than a session lives fails running calls once, and later ones succeed',
    async () => {
      await using pool = new Pool(server.address)
      const results = [1, 2].map((call) => pool.applyAsync('untilAborted', [`${file}.${call}`]))
      await until(() => [1, 2].every((call) => existsSync(`${file}.${call}`)), 'they run')
      let told = 0
      const counted = results.map((result) => errorOf(result).finally(() => told++))
      await host.unplug()
      for (const error of await Promise.all(counted))
        expect([error.reason, error.message]).toEqual([
          'CONNECTION_LOST',
          expect.stringMatching(/^the connection broke while the call was under way: /),
        ])
      await until(() => [1, 2].every((call) => lines(`${file}.${call}`).length === 2), 'the functions have been told')
      await host.plug()
      await until(async () => (await pool.apply('add', [1, 2]).catch(() => 0)) === 3, 'a later call has its result')
      expect(told).toBe(2)
      expect([1, 2].flatMap((call) => lines(`${file}.${call}`)).filter((line) => line === 'begun')).toHaveLength(2)
    },
    VANISHED_MS,
  )
})
