import { existsSync, writeFileSync } from 'node:fs'
import { Pool } from 'farpool'
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Relay } from '../chaos/relay.js'
import { linesOf } from '../support/calls.js'
import { sharedFarm } from '../support/farm.js'
import { temporaryFolder, until } from '../support/server.js'

const folder = temporaryFolder()
afterAll(() => folder.remove())
let file = ''
beforeEach(() => {
  file = folder.fresh()
})

const lines = () => linesOf(file)

describe('a client whose connection breaks', () => {
  const farm = sharedFarm({ args: ['--processes', '2'] })
  let relay: Relay
  beforeEach(async () => {
    relay = await Relay.to(farm.address)
  })
  afterEach(() => relay[Symbol.asyncDispose]())

  it('loses no call and runs none twice: running, waiting and new ones', async () => {
    await using pool = new Pool(relay.address)
    const running = pool.applyAsync('waitFor', [`${file}.begun`, `${file}.go`, 'ran'])
    const map = pool.mapAsync(
      'appendLine',
      Array.from({ length: 500 }, (_, i) => i),
      { chunksize: 1 },
    )
    await until(() => existsSync(`${file}.begun`), 'it runs')
    const appended = Array.from({ length: 2_000 }, (_, i) => pool.applyAsync('appendLine', [file, String(i)]))
    await until(() => lines() > 100, 'many have run')
    relay.cut()
    const meanwhile = pool.applyAsync('add', [1, 1])
    writeFileSync(`${file}.go`, '')
    expect(await running).toBe('ran')
    expect(await meanwhile).toBe(2)
    expect(await Promise.all(appended)).toEqual(Array.from({ length: 2_000 }, (_, i) => String(i)))
    expect(lines()).toBe(2_000)
    map.cancel()
  })
})
