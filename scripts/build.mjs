// Builds the code in dist/. Many small files would cost a program some 50 ms and 3 MB: what several entries share is in a
// few files, and a worker process loads one. tsc writes the declarations beside them.
import { chmodSync, rmSync } from 'node:fs'
import { rolldown } from 'rolldown'

async function build(...sources) {
  const bundle = await rolldown({
    input: Object.fromEntries(sources.map((source) => [source.replace('.ts', ''), `./${source}`])),
    platform: 'node',
    // Packages stay outside, but for two: generated code uses two classes of a library of two hundred files, and the other
    // has the helpers for `using`, which Node 20 does not know.
    external: (id) => /^[@a-z]/.test(id) && !/^(@bufbuild\/protobuf|@oxc-project\/runtime)\//.test(id),
    treeshake: { moduleSideEffects: [{ test: /@bufbuild/, sideEffects: false }] },
    resolve: { extensionAlias: { '.js': ['.ts', '.js'] } },
    transform: { target: 'node20' },
  })
  await bundle.write({ dir: 'dist', format: 'esm', sourcemap: true, chunkFileNames: 'shared/[name].js' })
  await bundle.close()
}

rmSync('dist', { recursive: true, force: true })
await build('client/index.ts', 'server/index.ts', 'worker/index.ts', 'cli/main.ts')
await build('worker/worker-main.ts')
chmodSync('dist/cli/main.js', 0o755)
