import { writeFileSync } from 'node:fs'
import { Pool } from 'farpool'
import { afterAll, expect, it } from 'vitest'
import { temporaryFolder } from '../support/server.js'

const folder = temporaryFolder()
afterAll(() => folder.remove())

const CASES: readonly (readonly [name: string, code: string, line: number])[] = [
  ['function.mjs', "import fs from 'node:fs'\nexport function f() {\n  return fs.;\n}\n", 3],
  ['lines.mjs', "import {\n  sep,\n  join,\n} from 'node:path'\nexport const f = () => [sep, join\n", 5],
  ['class.mjs', 'export class A {\n  #x = 1\n  f() { return this.#y }\n}\n', 3],
  [
    'default.mjs',
    "export default async function () {}\nexport { sep } from 'node:path'\nexport * from 'node:path'\nlet 1\n",
    4,
  ],
  ['await.mjs', "const x = await import('node:path')\nconsole.log(import.meta.url)\nexport const f = () => x)\n", 3],
  ['strict.mjs', 'export const f = () => {\n  with (Math) {}\n}\n', 2],
  ['again.mjs', 'export const f = () => 1\nconst f = 2\n', 2],
  ['common.cjs', "'use strict'\nexports.f = () => {\n  delete x\n}\n", 3],
  ['string.cjs', "exports.f = () => 'open\n", 1],
]

it.each(CASES)('a local pool names the line of a syntax error: %s', async (name, code, line) => {
  writeFileSync(folder.path(name), code)
  await expect(Pool.local(folder.path(name), { processes: 1 })).rejects.toMatchObject({
    reason: 'MODULE_LOAD_FAILED',
    message: expect.stringContaining(`SyntaxError: `),
  })
  await expect(Pool.local(folder.path(name), { processes: 1 })).rejects.toThrow(`(${folder.path(name)}:${line})`)
})
