import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { Project } from '../support/installed-package.js'

const project = new Project(['typescript', '@types/node'])
afterAll(() => project[Symbol.dispose]())

const FUNCTIONS = `
export const add = (a, b) => a + b
export const fail = () => { throw new RangeError('no') }
`
/** Uses all three entries. The lines that load them stand before it. */
const PROGRAM = `
const main = async () => {
  const server = await serve({ modules: ['functions.mjs'], processes: 1, listen: '127.0.0.1:0', logLevel: 'silent' })
  const pools = [new Pool(server.address), await Pool.local('functions.mjs', { processes: 1 })]
  for (const pool of pools) {
    console.log(await pool.apply('add', [1, 2]))
    console.log(await pool.apply('fail').catch((error) => error instanceof RemoteError && error.type))
    await pool.terminate()
  }
  await server.stop()
  console.log(typeof configure)
}
main()
`
const SAID = '3\nRangeError\n3\nRangeError\nfunction\n'

describe('the package', () => {
  it('runs in a program of ES modules', () => {
    project.write({
      'functions.mjs': FUNCTIONS,
      'esm.mjs': `
        import { Pool, RemoteError } from 'farpool'
        import { serve } from 'farpool/server'
        import { configure } from 'farpool/worker'
        ${PROGRAM}`,
    })
    expect(project.run('esm.mjs')).toBe(SAID)
  })

  it('runs in a program of CommonJS modules, with the same classes', () => {
    project.write({
      'functions.mjs': FUNCTIONS,
      'common.cjs': `
        const { Pool, RemoteError } = require('farpool')
        const { serve } = require('farpool/server')
        const { configure } = require('farpool/worker')
        import('farpool').then((esm) => { if (esm.Pool !== Pool) throw new Error('two classes') })
        ${PROGRAM}`,
    })
    expect(project.run('common.cjs')).toBe(SAID)
  })

  it('has types for TypeScript as ES module and as CommonJS', () => {
    const typed = `
import { Pool, RemoteError, type PoolOptions } from 'farpool'
import { serve, type RunningServer } from 'farpool/server'
import { configure } from 'farpool/worker'
const options: PoolOptions = {}
const started: Promise<RunningServer> | undefined = undefined
// @ts-expect-error
const wrong: PoolOptions = { processes: 'two' }
void [options, started, wrong]
${PROGRAM}`
    project.write({
      'functions.mjs': FUNCTIONS,
      'typed.mts': typed,
      'typed.cts': typed,
      'tsconfig.json': JSON.stringify({
        compilerOptions: {
          module: 'nodenext',
          target: 'es2022',
          lib: ['es2023', 'esnext.disposable'],
          types: ['node'],
          strict: true,
          outDir: 'out',
        },
        files: ['typed.mts', 'typed.cts'],
      }),
    })
    project.run('node_modules/typescript/bin/tsc', '-p', '.')
    expect(project.run('out/typed.mjs')).toBe(SAID)
    expect(project.run('out/typed.cjs')).toBe(SAID)
  })

  it('has a command line', () => {
    const { version, bin } = JSON.parse(readFileSync(project.path('node_modules/farpool/package.json'), 'utf8'))
    expect(project.run(`node_modules/farpool/${bin.farpool}`, '--version')).toBe(`${version}\n`)
  })

  it('carries its docs, and the sources of its maps', () => {
    const folder = project.path('node_modules/farpool')
    for (const name of [
      'README.md',
      'LICENSE',
      'CHANGELOG.md',
      'docs/reference/cli.md',
      'proto/farpool/v1/pool_service.proto',
    ])
      expect([name, existsSync(join(folder, name))]).toEqual([name, true])
    const files = readdirSync(folder, { recursive: true }).map(String)
    const maps = files.filter((name) => name.endsWith('.js.map'))
    expect(maps.length).toBeGreaterThan(3)
    for (const map of maps) {
      const { sources, sourcesContent } = JSON.parse(readFileSync(join(folder, map), 'utf8'))
      expect([map, sourcesContent?.filter(Boolean).length]).toEqual([map, sources.length])
    }
    expect(files.filter((name) => /^(test|bench|node_modules)\/|examples/.test(name))).toEqual([])
  })
})
