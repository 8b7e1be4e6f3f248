import { execFile } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { Pool } from 'farpool'
import { afterAll, describe, expect, it } from 'vitest'
import { temporaryFolder } from '../support/server.js'

/** Which functions a module has, and how it is loaded. */

const folder = temporaryFolder()
afterAll(() => folder.remove())

function module(name: string, code: string): string {
  mkdirSync(dirname(folder.path(name)), { recursive: true })
  writeFileSync(folder.path(name), code)
  return folder.path(name)
}

describe('a module', () => {
  it.each([
    [
      'a function with properties',
      'function.cjs',
      'const add = (a, b) => a + b; module.exports = add; add.multiply = (a, b) => a * b',
    ],
    ['an object', 'object.cjs', 'module.exports = { ["mul" + "tiply"]: (a, b) => a * b, default: (a, b) => a + b }'],
    [
      'what was compiled from an ES module',
      'compiled.cjs',
      'Object.defineProperty(exports, "__esModule", { value: true }); exports.default = { default: (a, b) => a + b, multiply: (a, b) => a * b }',
    ],
    [
      'a compiled default function with properties',
      'compiled-function.cjs',
      'exports.__esModule = true; const add = (a, b) => a + b; add.multiply = (a, b) => a * b; exports.default = add',
    ],
    ['a default object', 'object.mjs', 'export default { default: (a, b) => a + b, multiply: (a, b) => a * b }'],
    [
      'a default function with properties',
      'function.mjs',
      'export default function add(a, b) { return a + b }\nadd.multiply = (a, b) => a * b',
    ],
    [
      'a default class with static methods',
      'class.mjs',
      'export default class { static default(a, b) { return a + b } static multiply(a, b) { return a * b } add() {} }',
    ],
    [
      'an object with `this`',
      'this.cjs',
      'module.exports = { zero: 0, default(a, b) { return this.zero + a + b }, multiply(a, b) { return this.default(a * b, 0) } }',
    ],
  ])('that exports %s has its functions', async (_, name, code) => {
    await using pool = await Pool.local(module(name, code), { processes: 1 })
    expect((await pool.functions()).map((one) => one.name)).toEqual(['default', 'multiply'])
    expect([await pool.apply('default', [3, 4]), await pool.apply('multiply', [3, 4])]).toEqual([7, 12])
  })

  it('has the functions whose names begin with class, no classes, and nothing of a getter that throws', async () => {
    const code = `module.exports = { classify(x) { return x }, Shape: class Shape {}, get broken() { throw new Error('no') } }`
    await using pool = await Pool.local(module('names.cjs', code), { processes: 1 })
    expect((await pool.functions()).map(({ name }) => name)).toEqual(['classify'])
  })

  it('that throws while it is loaded is the cause of the error, with its facts', async () => {
    const missing = module('missing.mjs', `import './no-such-file.mjs'`)
    await expect(Pool.local(missing, { processes: 1 })).rejects.toMatchObject({
      name: 'InitializerError',
      reason: 'MODULE_LOAD_FAILED',
      cause: { code: 'ERR_MODULE_NOT_FOUND' },
    })
  })

  it('in TypeScript is loaded by the loader that the program was started with', async () => {
    const typescript = module('typed.ts', 'export const half = (x: number): number => x / 2')
    // A loader that knows as much TypeScript as the module needs, for `import` and for `require`.
    const plain = `const plain = (text) => String(text).replaceAll(': number', '')`
    const hooks = module(
      'loader/hooks.mjs',
      `${plain}
export async function load(url, context, next) {
  if (!url.endsWith('.ts')) return next(url, context)
  const { source } = await next(url, { ...context, format: 'module' })
  return { format: 'module', source: plain(source), shortCircuit: true }
}`,
    )
    const imported = module(
      'loader/import.mjs',
      `import { register } from 'node:module'\nregister(${JSON.stringify(pathToFileURL(hooks).href)})`,
    )
    const required = module(
      'loader/require.cjs',
      `${plain}
require.extensions['.ts'] = (module, file) =>
  module._compile(plain(require('node:fs').readFileSync(file)).replace('export const half', 'exports.half'), file)`,
    )
    const client = new URL('../../dist/client/index.js', import.meta.url).href
    const program = `import { Pool } from ${JSON.stringify(client)}
const pool = await Pool.local(${JSON.stringify(typescript)}, { processes: 1 })
console.log(await pool.apply('half', [4]))
await pool.terminate()`
    for (const flags of [['--import', imported], [`--loader=${hooks}`], ['--require', required]]) {
      const { stdout } = await promisify(execFile)(process.execPath, [
        ...flags,
        '--input-type=module',
        '--eval',
        program,
      ])
      expect(stdout).toBe('2\n')
    }
  })
})
