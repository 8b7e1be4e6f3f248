// Runs a TypeScript file of test/ as a program: `node scripts/run.mjs test/attack/fuzz.ts --count 1000`. What it uses
// of this project becomes one file, at the same depth, so that paths from there are right; packages stay outside.
import { basename } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { rolldown } from 'rolldown'

const [, , input, ...args] = process.argv
if (!input) throw new Error('which file?')
const file = fileURLToPath(new URL(`../test/out/${basename(input, '.ts')}.mjs`, import.meta.url))
const bundled = await rolldown({ input, platform: 'node', external: /^[^./]/ })
await bundled.write({ file, format: 'esm' })
await bundled.close()
process.argv = [process.argv[0], file, ...args]
await import(pathToFileURL(file).href)
