// What is built into one file with no more of a library than it uses: it starts sooner and weighs less.
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { rolldown } from 'rolldown'

const treeshake = { moduleSideEffects: [{ test: /@bufbuild/, sideEffects: false }] }

async function bundle(input, file) {
  const bundled = await rolldown({ input, platform: 'node', treeshake })
  await bundled.write({ file, format: 'esm' })
  await bundled.close()
}

// Generated code needs two classes of a library of two hundred files, which its one entry point all imports.
const LIBRARY = '@bufbuild/protobuf/wire'
const entry = 'dist/proto/wire-entry.js'
const wire = 'dist/proto/wire.js'
writeFileSync(entry, `export { BinaryReader, BinaryWriter, WireType } from '${LIBRARY}'\n`)
await bundle(entry, wire)
rmSync(entry)
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

const worker = 'dist/worker/worker-main.js'
await bundle(worker, worker)
rmSync(`${worker}.map`)
