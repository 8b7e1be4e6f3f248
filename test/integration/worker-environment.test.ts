import { chmodSync, writeFileSync } from 'node:fs'
import { Pool } from 'farpool'
import { afterAll, describe, expect, it } from 'vitest'
import { resolveConfig } from '../../server/resolve-config.js'
import { startFarm } from '../support/farm.js'
import { FUNCTIONS, farpool, temporaryFolder } from '../support/server.js'

/** Which variables workers see, and how secrets reach them. */

const MODULE = `
  let given
  export const initialize = (...args) => { given = args }
  export const initargs = () => given
  export const environment = () => process.env`

const SECRETS = [
  'env',
  'APP_SECRET=s3cret',
  'AWS_REGION=here',
  'AWS_KEY=k',
  'TZ=UTC',
  'LC_ALL=C',
  'FARPOOL_LOG_LEVEL=warn',
]

const folder = temporaryFolder()
afterAll(() => folder.remove())

const environmentOf = async (args: string[], prefix = SECRETS) => {
  await using farm = await startFarm({
    module: MODULE,
    args: ['--processes', '1', '--log-level', 'info', ...args],
    prefix,
  })
  return (await farm.pool.apply('environment')) as Record<string, string>
}

describe('the environment of a worker', () => {
  it('has what programs need, and no secret of the server', async () => {
    const environment = await environmentOf([])
    expect(environment).toMatchObject({ TZ: 'UTC', LC_ALL: 'C', PATH: expect.any(String) })
    for (const name of ['APP_SECRET', 'AWS_REGION', 'AWS_KEY', 'FARPOOL_LOG_LEVEL'])
      expect(environment).not.toHaveProperty(name)
  })

  it('has what --worker-env names, also by a prefix', async () => {
    const environment = await environmentOf(['--worker-env', 'APP_SECRET,AWS_*'])
    expect(environment).toMatchObject({ APP_SECRET: 's3cret', AWS_REGION: 'here', AWS_KEY: 'k', TZ: 'UTC' })
    expect(environment).not.toHaveProperty('FARPOOL_LOG_LEVEL')
  })

  it("has all that the server has with --worker-env '*'", async () => {
    expect(await environmentOf(['--worker-env', '*'])).toMatchObject({
      APP_SECRET: 's3cret',
      FARPOOL_LOG_LEVEL: 'warn',
    })
  })

  it('of a local pool is that of its program, as in Python', async () => {
    writeFileSync(folder.path('local.mjs'), MODULE)
    process.env['APP_SECRET'] = 's3cret'
    try {
      await using pool = await Pool.local(folder.path('local.mjs'), { processes: 1 })
      expect(await pool.apply('environment')).toMatchObject({ APP_SECRET: 's3cret' })
    } finally {
      delete process.env['APP_SECRET']
    }
  })

  it.each(['A B', '', '1A', 'A=1', '*A'])('cannot be named %j', (name) => {
    expect(() => resolveConfig({ modules: [FUNCTIONS], workerEnv: ['B', name] })).toThrow(
      `worker-env is ${JSON.stringify(['B', name])}; it must be names of environment variables`,
    )
  })
})

describe('the arguments of the initializer', () => {
  const initializer = ['--processes', '1', '--initializer', 'initialize']

  it('from FARPOOL_INITARGS are in no environment of a worker', async () => {
    const args = [...initializer, '--worker-env', '*']
    await using farm = await startFarm({ module: MODULE, args, prefix: ['env', 'FARPOOL_INITARGS=["s3cret"]'] })
    expect(await farm.pool.apply('initargs')).toEqual(['s3cret'])
    expect(await farm.pool.apply('environment')).not.toHaveProperty('FARPOOL_INITARGS')
  })

  it('come from --initargs-file', async () => {
    const file = folder.path('initargs.json')
    writeFileSync(file, '["s3cret", {"a": 1}]')
    chmodSync(file, 0o600)
    await using farm = await startFarm({ module: MODULE, args: [...initializer, '--initargs-file', file] })
    expect(await farm.pool.apply('initargs')).toEqual(['s3cret', { a: 1 }])
  })

  it('are not shown by --print-config', async () => {
    const file = folder.path('secret.json')
    writeFileSync(file, '["s3cret"]')
    const { code, stdout } = await farpool([
      'serve',
      FUNCTIONS,
      ...initializer,
      '--initargs-file',
      file,
      '--print-config',
    ])
    expect(code).toBe(0)
    expect(stdout).toContain(file)
    expect(stdout).not.toContain('s3cret')
  })

  it.each<[string, string | undefined, string]>([
    ['a file that is not there', undefined, 'it must be a file that can be read'],
    ['a file that is no JSON', '["s3cret"', 'it must be a file with a JSON array'],
    ['a file without an array', '{"secret": "s3cret"}', 'it must be a file with a JSON array'],
  ])('cannot come from %s, and the message does not show it', (_, content, message) => {
    const initargsFile = folder.fresh()
    if (content !== undefined) writeFileSync(initargsFile, content)
    const resolve = () => resolveConfig({ modules: [FUNCTIONS], initializer: 'initialize', initargsFile })
    expect(resolve).toThrow(`initargs-file is ${JSON.stringify(initargsFile)}; ${message}`)
    expect(resolve).not.toThrow('s3cret')
  })

  it('cannot come from two places', () => {
    const options = { modules: [FUNCTIONS], initializer: 'initialize', initargs: [1], initargsFile: 'x' }
    expect(() => resolveConfig(options)).toThrow('initargs and initargs-file exclude each other')
  })
})
