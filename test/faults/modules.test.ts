import { writeFileSync } from 'node:fs'
import { Pool } from 'farpool'
import { afterAll, describe, expect, it } from 'vitest'
import { FUNCTIONS, farpool, ServerProcess, temporaryFolder } from '../support/server.js'

describe('a server whose module', () => {
  const folder = temporaryFolder()
  afterAll(() => folder.remove())
  const module = (name: string, code: string) => {
    writeFileSync(folder.path(name), code)
    return folder.path(name)
  }
  const serve = async (...modules: string[]) => {
    const args = ['--processes', '1', '--listen', '127.0.0.1:0', '--log-format', 'pretty']
    const { code, stderr } = await farpool(['serve', ...modules, ...args])
    return { code, said: stderr }
  }

  it('does not exist fails to start', async () => {
    expect(await serve('./no/such/module.js')).toMatchObject({
      code: 1,
      said: expect.stringMatching(/there is no module .*no\/such\/module\.js/),
    })
  })

  it('throws while it is loaded fails to start', async () => {
    const said = await serve(module('throws.mjs', `throw new Error('not today')`))
    expect(said).toMatchObject({
      code: 1,
      said: expect.stringMatching(/throws\.mjs cannot be loaded: Error: not today/),
    })
  })

  it('has a syntax error fails to start', async () => {
    const said = await serve(module('syntax.mjs', 'export const = 1'))
    expect(said).toMatchObject({ code: 1, said: expect.stringContaining('SyntaxError') })
  })

  it('exports no function fails to start', async () => {
    for (const code of ['', 'export const x = 1', 'export class A {}']) {
      expect(await serve(module('empty.mjs', code))).toMatchObject({
        code: 1,
        said: expect.stringContaining('exports no function'),
      })
    }
  })

  it('exports a name of another module fails to start', async () => {
    const said = await serve(FUNCTIONS, module('again.mjs', 'export const add = () => 1'))
    expect(said).toMatchObject({
      code: 1,
      said: expect.stringMatching(/again\.mjs exports "add", which .*functions\.mjs exports too/),
    })
  })

  it('ends its process while it is loaded fails to start', async () => {
    const said = await serve(module('exits.mjs', 'process.exit(7)'))
    expect(said).toMatchObject({
      code: 1,
      said: expect.stringMatching(/died before they were ready; the last one exited with code 7/),
    })
  })

  it('has an initializer that throws fails to start', async () => {
    const { code, stderr } = await farpool([
      'serve',
      FUNCTIONS,
      '--initializer',
      'failToInitialize',
      '--listen',
      '127.0.0.1:0',
    ])
    expect(code).toBe(1)
    expect(stderr).toContain('the initializer failToInitialize threw Error: no licence')
  })

  it('is CommonJS, or TypeScript if this Node can load it, runs its functions', async () => {
    const common = module(
      'common.cjs',
      'module.exports = { double: (x) => 2 * x, ...{ ["tri" + "ple"]: (x) => 3 * x } }',
    )
    await using server = await ServerProcess.start(['--processes', '1'], [FUNCTIONS, common])
    await using pool = new Pool(server.address)
    expect([await pool.apply('double', [2]), await pool.apply('triple', [2]), await pool.apply('add', [2])]).toEqual([
      4, 6, 2,
    ])
    const typescript = module('typed.ts', 'export const half = (x: number): number => x / 2')
    if ('typescript' in process.features && process.features.typescript) {
      await using typed = await Pool.local(typescript, { processes: 1 })
      expect(await typed.apply('half', [4])).toBe(2)
    } else {
      expect(await serve(typescript)).toMatchObject({
        code: 1,
        said: expect.stringContaining('is TypeScript, which Node'),
      })
    }
  })

  it('does not settle its top-level await fails to start, and the message names the option', async () => {
    const pending = module('pending.mjs', 'await new Promise(() => {}); export const f = () => 1')
    const server = await farpool(['serve', pending, '--listen', '127.0.0.1:0', '--start-timeout', '100'])
    expect(server).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/top-level await may never settle.*--start-timeout/),
    })
    await expect(Pool.local(pending, { processes: 1, startTimeoutMs: 100 })).rejects.toMatchObject({
      reason: 'NO_WORKERS',
      message: expect.stringMatching(/did not come to an end in 100 ms; .*startTimeoutMs/),
    })
  })
})
