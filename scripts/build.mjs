// Builds the code in dist/. Many small files would cost a program some 50 ms and 3 MB: what several entries share is in a
// few files, and a worker process loads one. tsc writes the declarations beside them.
import { chmodSync, cpSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { rolldown } from 'rolldown'

/** What only CommonJS can do is in files of its own, which are copied. */
const COMMON_JS = ['client/transport/load-grpc-js.cjs', 'wire/this-folder.cjs']

async function build(...sources) {
  const bundle = await rolldown({
    input: Object.fromEntries(sources.map((source) => [source.replace('.ts', ''), `./${source}`])),
    platform: 'node',
    // Packages stay outside, but for three: generated code uses two classes of a library of two hundred files, valibot has
    // TypeScript as an optional peer, and the last has the helpers for `using`, which Node 20 does not know.
    external: (id) =>
      id.endsWith('.cjs') ||
      (/^[@a-z]/.test(id) && !/^(@bufbuild\/protobuf\/|@oxc-project\/runtime\/|valibot$)/.test(id)),
    treeshake: { moduleSideEffects: [{ test: /@bufbuild|valibot/, sideEffects: false }] },
    resolve: { extensionAlias: { '.js': ['.ts', '.js'] } },
    transform: { target: 'node20' },
  })
  await bundle.write({ dir: 'dist', format: 'esm', sourcemap: true, chunkFileNames: 'shared/[name].js' })
  await bundle.close()
}

rmSync('dist', { recursive: true, force: true })
await build('client/index.ts', 'server/index.ts', 'worker/index.ts', 'cli/main.ts')
await build('worker/worker-main.ts')
for (const file of COMMON_JS) {
  mkdirSync(dirname(join('dist', file)), { recursive: true })
  cpSync(file, join('dist', file))
}
chmodSync('dist/cli/main.js', 0o755)
mkdirSync('dist/licenses')
cpSync('node_modules/valibot/LICENSE.md', 'dist/licenses/valibot.md')

// The package is made of ES modules, which `require` loads since Node 20.19. TypeScript and bundlers want to be told so by
// files that are CommonJS.
for (const entry of ['client', 'server', 'worker']) {
  writeFileSync(`dist/${entry}/index.cjs`, "module.exports = require('./index.js')\n")
  writeFileSync(`dist/${entry}/index.d.cts`, "export * from './index.js'\n")
}
