import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { beforeAll, describe, expect, it } from 'vitest'

/** docs/explanation/architecture.md lists the files that one call runs. A trace of a real call must agree. */

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url))
const ARCHITECTURE = readFileSync(path('../../docs/explanation/architecture.md'), 'utf8')

/** The files that a section of the page names. */
function filesIn(heading: string): string[] {
  const [, section = ''] = ARCHITECTURE.split(`\n## ${heading}\n`)
  const [body = ''] = section.split('\n## ')
  return [...new Set([...body.matchAll(/`([\w/-]+\.ts)`/g)].map((match) => String(match[1])))].sort()
}

let traced: { apply: string[]; imap: string[] }

beforeAll(async () => {
  const { stdout } = await promisify(execFile)(process.execPath, [path('../support/trace.mjs')])
  traced = JSON.parse(stdout)
})

/** Without generated code, and the library that it needs. */
const written = (files: readonly string[]) => files.filter((file) => !/^(proto|node_modules)\//.test(file))

describe('the way of a call through the files', () => {
  it('of one apply is as docs/explanation/architecture.md says, and has at most 30 files', () => {
    expect(written(traced.apply)).toEqual(filesIn('The way of one apply'))
    expect(written(traced.apply).length).toBeLessThanOrEqual(30)
  })

  it('of one imap is as docs/explanation/architecture.md says', () => {
    expect(written(traced.imap)).toEqual(filesIn('The way of one imap'))
  })
})
