import { copyFileSync } from 'node:fs'
import { build } from 'esbuild'
import { rolldown } from 'rolldown'
import { afterAll, describe, expect, it } from 'vitest'
import webpack from 'webpack'
import { sharedFarm } from '../support/farm.js'
import { Project } from '../support/installed-package.js'
import { FUNCTIONS, temporaryFolder } from '../support/server.js'

const farm = sharedFarm()
const project = new Project()
afterAll(() => project[Symbol.dispose]())

project.write({
  // A client of a server, then a local pool.
  'client.mjs': `
    import { Pool, RemoteError } from 'farpool'
    const [, , address, functions] = process.argv
    const main = async () => {
      for (const options of [{}, { transport: 'unary' }, { processes: 1 }]) {
        const pool = new Pool(address, options)
        const failed = await pool.apply('throwIt', ['cause']).catch((error) => error instanceof RemoteError)
        console.log(await pool.apply('add', [1, 2]), failed)
        await pool.terminate()
      }
      const local = await Pool.local(functions, { processes: 1 })
      console.log(await local.apply('square', [3]))
      await local.terminate()
    }
    main().catch((error) => console.log(error.name, error.message))`,
  'common.cjs': `
    const { Pool } = require('farpool')
    const pool = new Pool(process.argv[2])
    pool.map('square', [1, 2]).then((squares) => {
      console.log(...squares)
      return pool.terminate()
    })`,
})

/** Makes a bundle of a file of the project. Returns the path of the bundle. @throws for a warning too. */
type Format = 'cjs' | 'esm'
type Bundler = (file: string, format: Format, external?: string) => Promise<string>

const outputOf = (name: string, file: string, format: 'cjs' | 'esm') =>
  project.path(`out/${name}-${file}.${format === 'cjs' ? 'cjs' : 'mjs'}`)

const bundlers = {
  esbuild: async (file: string, format: Format, external?: string) => {
    const outfile = outputOf('esbuild', file, format)
    const { warnings } = await build({
      entryPoints: [project.path(file)],
      bundle: true,
      platform: 'node',
      format,
      outfile,
      external: external ? [external] : [],
      logLevel: 'silent',
    })
    expect(warnings).toEqual([])
    return outfile
  },
  webpack: async (file: string, format: Format, external?: string) => {
    const outfile = outputOf('webpack', file, format)
    const stats = await new Promise<webpack.Stats | undefined>((resolve, reject) =>
      webpack(
        {
          mode: 'production',
          target: 'node20',
          entry: project.path(file),
          output: {
            path: project.path('out'),
            filename: outfile.slice(project.path('out/').length),
            ...(format === 'esm' ? { module: true, chunkFormat: 'module' } : {}),
          },
          experiments: { outputModule: format === 'esm' },
          externals: external ? { [external]: format === 'esm' ? `module ${external}` : `commonjs ${external}` } : {},
          performance: { hints: false },
          // It takes most of the time. Once is enough.
          optimization: { minimize: format === 'cjs' },
        },
        (error, result) => (error ? reject(error) : resolve(result)),
      ),
    )
    expect(stats?.toJson({ all: false, errors: true, warnings: true })).toMatchObject({ errors: [], warnings: [] })
    return outfile
  },
  rolldown: async (file: string, format: Format, external?: string) => {
    const outfile = outputOf('rolldown', file, format)
    const bundle = await rolldown({
      input: project.path(file),
      platform: 'node',
      external: external ? [external] : [],
      logLevel: 'silent',
    })
    await bundle.write({ file: outfile, format, codeSplitting: false })
    return outfile
  },
} satisfies Record<string, Bundler>

/** Runs a bundle where nothing is installed. */
function runAlone(bundle: string): string {
  const folder = temporaryFolder()
  const copy = folder.path(bundle.endsWith('.cjs') ? 'bundle.cjs' : 'bundle.mjs')
  copyFileSync(bundle, copy)
  try {
    return project.run(copy, farm.address, FUNCTIONS)
  } finally {
    folder.remove()
  }
}

const REMOTE = '3 true\n3 true\n3 true\n'

for (const [name, bundle] of Object.entries(bundlers)) {
  for (const format of ['cjs', 'esm'] as const) {
    describe(`a bundle by ${name} (${format})`, () => {
      it('is a client of a server, alone in a folder, and says what to do about Pool.local', {
        timeout: 180_000,
      }, async () => {
        const said = runAlone(await bundle('client.mjs', format))
        expect(said.slice(0, REMOTE.length)).toBe(REMOTE)
        expect(said.slice(REMOTE.length)).toMatch(
          /^BadRequestError farpool is inside of a bundle, .*Leave it out of the bundle/,
        )
      })

      it('has Pool.local if farpool stays outside', async () => {
        const said = project.run(await bundle('client.mjs', format, 'farpool'), farm.address, FUNCTIONS)
        expect(said).toBe(`${REMOTE}9\n`)
      })
    })
  }
}

it('a bundle may require farpool', async () => {
  expect(runAlone(await bundlers.esbuild('common.cjs', 'cjs'))).toBe('1 4\n')
})
