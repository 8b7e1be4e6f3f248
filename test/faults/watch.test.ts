import { existsSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { Pool } from 'farpool'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ServerProcess, temporaryFolder, until } from '../support/server.js'

const module = (value: string) => `
  import { existsSync, writeFileSync } from 'node:fs'
  import { part } from './part.mjs'
  export const answer = () => ${JSON.stringify(value)} + part
  export const slow = async (begun, file) => {
    writeFileSync(begun, '')
    while (!existsSync(file)) await new Promise((resolve) => setTimeout(resolve, 5))
    return ${JSON.stringify(value)}
  }
`
const part = (value: string) => `export const part = ${JSON.stringify(value)}`

describe('farpool serve --watch', () => {
  const folder = temporaryFolder()
  let server: ServerProcess
  let pool: Pool
  /** Changes files. Resolves when all workers have the changed files, so that no worker loads any file. */
  const change = async (write: () => void) => {
    const reloads = () => server.log.filter(({ msg }) => msg === 'the workers get the changed modules').length
    const before = reloads()
    write()
    await until(() => reloads() > before, 'the change is seen')
    await until(async () => {
      const { workers } = await pool.info()
      return workers.length === 2 && workers.every(({ state }) => state === 'idle')
    }, 'both workers are new')
  }

  beforeAll(async () => {
    writeFileSync(folder.path('module.mjs'), module('one'))
    writeFileSync(folder.path('part.mjs'), part('!'))
    server = await ServerProcess.start(['--processes', '2', '--watch'], [folder.path('module.mjs')])
    pool = new Pool(server.address)
  })
  afterAll(async () => {
    await pool.terminate()
    await server[Symbol.asyncDispose]()
    folder.remove()
  })

  it('gives the workers a changed module; a task that runs ends on the old one', async () => {
    expect(await pool.apply('answer')).toBe('one!')
    const [begun, end] = [folder.fresh(), folder.fresh()]
    const slow = pool.applyAsync('slow', [begun, end])
    await until(() => existsSync(begun), 'the task runs')
    writeFileSync(folder.path('module.mjs'), module('two'))
    await until(async () => (await pool.apply('answer')) === 'two!', 'the idle worker has been replaced')
    writeFileSync(end, '')
    expect(await slow.get()).toBe('one')
    expect(await pool.map('answer', [1, 2, 3, 4])).toEqual(Array(4).fill('two!'))
  })

  it('sees files that the module imports, also where an editor puts a new one in the place of the old one', async () => {
    await change(() => writeFileSync(folder.path('part.mjs'), part('?')))
    expect(await pool.apply('answer')).toBe('two?')
    await change(() => {
      writeFileSync(folder.path('new'), part('.'))
      renameSync(folder.path('new'), folder.path('part.mjs'))
    })
    expect(await pool.apply('answer')).toBe('two.')
  })

  it('keeps the old workers where the changed module cannot be loaded, and says why', async () => {
    const { workersStarted } = await pool.info()
    writeFileSync(folder.path('module.mjs'), `${module('three')}\nexport const wrong = ;`)
    const { msg } = await server.logged(({ msg }) => msg.includes('the old ones stay'))
    expect(msg).toMatch(/SyntaxError: .*module\.mjs:\d+/)
    expect(await pool.apply('answer')).toBe('two.')
    expect((await pool.info()).workersStarted).toBe(workersStarted)
    await change(() => writeFileSync(folder.path('module.mjs'), module('three')))
    expect(await pool.apply('answer')).toBe('three.')
    expect((await pool.info()).workersStarted).toBe(workersStarted + 2)
    rmSync(folder.path('part.mjs'))
    await server.logged(({ msg }) => msg.includes('the old ones stay') && msg.includes('part.mjs'))
    expect(await pool.apply('answer')).toBe('three.')
    await change(() => writeFileSync(folder.path('part.mjs'), part(',')))
    expect(await pool.apply('answer')).toBe('three,')
  })

  it('knows new functions, and no longer those that are gone', async () => {
    writeFileSync(folder.path('module.mjs'), `import './part.mjs'; export const later = () => 5`)
    await until(async () => (await pool.functions()).every(({ name }) => name === 'later'), 'there is one function')
    // At once, while the workers are being replaced.
    expect(await pool.apply('later')).toBe(5)
    await expect(pool.apply('answer')).rejects.toMatchObject({ reason: 'FUNCTION_NOT_FOUND' })
  })

  it('gives owned pools the changed modules too', async () => {
    await using owned = new Pool(server.address, { processes: 1 })
    expect(await owned.apply('later')).toBe(5)
    await change(() => writeFileSync(folder.path('module.mjs'), `export const later = () => 6`))
    expect(await owned.apply('later')).toBe(6)
  })
})

describe('farpool serve --watch with two shared pools', () => {
  it('gives new workers to the pools whose files have changed, and to those made from them', async () => {
    const folder = temporaryFolder()
    const source = (value: number) => `export const answer = () => ${value}`
    writeFileSync(folder.path('one.mjs'), source(1))
    writeFileSync(folder.path('two.mjs'), source(2))
    const config = 'modules: [one.mjs]\nprocesses: 1\nwatch: true\npools: { two: { modules: [two.mjs] } }\n'
    writeFileSync(folder.path('farpool.yaml'), config)
    await using server = await ServerProcess.start(['--config', folder.path('farpool.yaml')], [])
    await using one = new Pool(server.address)
    await using two = new Pool(server.address, { pool: 'two' })
    await using own = new Pool(server.address, { pool: 'two', processes: 1 })
    expect(await own.apply('answer')).toBe(2)
    writeFileSync(folder.path('two.mjs'), source(3))
    await until(async () => (await two.apply('answer')) === 3, 'the pool has the change')
    await until(async () => (await own.apply('answer')) === 3, 'the pool made from it has the change')
    expect((await one.info()).workersStarted).toBe(1)
    writeFileSync(folder.path('two.mjs'), 'export const = 4')
    expect(await server.logged(({ msg }) => msg.includes('the old ones stay'))).toMatchObject({ pool: 'two' })
    expect([await one.apply('answer'), await two.apply('answer')]).toEqual([1, 3])
    folder.remove()
  })
})
