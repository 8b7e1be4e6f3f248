// Bundles two parts of the build into one file each, with only the code that they use: they load faster and take less memory.
//   dist/proto/wire.js           the reader and the writer of @bufbuild/protobuf, which all generated code imports
//   dist/worker/worker-main.js   the program of a worker process
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { rolldown } from 'rolldown'

const treeshake = { moduleSideEffects: [{ test: /@bufbuild/, sideEffects: false }] }

async function bundle(input, file) {
  const bundled = await rolldown({
    input,
    platform: 'node',
    treeshake,
    // A comment `// dist/wire/values/payload.js` before the code of each module. The test that traces the files of one call
    // through the worker needs them, to know from which file each function of the bundle is.
    experimental: { attachDebugInfo: 'simple' },
  })
  await bundled.write({ file, format: 'esm' })
  await bundled.close()
}

// Generated code uses two classes of the library, but the entry point of the library imports all of its two hundred files.
const LIBRARY = '@bufbuild/protobuf/wire'
const entry = 'dist/proto/wire-entry.js'
const wire = 'dist/proto/wire.js'
writeFileSync(entry, `export { BinaryReader, BinaryWriter, WireType } from '${LIBRARY}'\n`)
await bundle(entry, wire)
rmSync(entry)

// Every other file imports the bundle instead of the library.
for (const name of readdirSync('dist', { recursive: true })) {
  const path = join('dist', name)
  if (!path.endsWith('.js') || path === wire) continue
  const code = readFileSync(path, 'utf8')
  const own = relative(dirname(path), wire)
  const changed = code.replace(
    /(from\s*)["']@bufbuild\/protobuf\/wire["']/g,
    `$1"${own.startsWith('.') ? own : `./${own}`}"`,
  )
  if (changed !== code) writeFileSync(path, changed)
}

// Last, because it replaces the file that it starts from. The source map of that file is no longer right.
const worker = 'dist/worker/worker-main.js'
await bundle(worker, worker)
rmSync(`${worker}.map`)
