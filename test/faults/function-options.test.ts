import { writeFileSync } from 'node:fs'
import { afterAll, describe, expect, it } from 'vitest'
import { farpool, temporaryFolder } from '../support/server.js'

/** Options of a function in its module that are wrong. */

const folder = temporaryFolder()
afterAll(() => folder.remove())

describe('a server whose module has a wrong option', () => {
  it.each([
    ['{ retries: -1 }', 'its retries are -1; they must be an integer, 0 or more'],
    ['{ runTimeout: 1.5 }', 'its runTimeout is 1.5; it must be a whole number of milliseconds'],
    ["{ kill: 'now' }", `its kill is "now"; it must be 'after-grace' or 'never'`],
    ['{ retrys: 1 }', 'it has the unknown option retrys; the options are retries, runTimeout and kill'],
    ['1', 'its options are 1; they must be an object'],
  ])('does not start: %s', async (options, message) => {
    const module = `${folder.fresh()}.mjs`
    writeFileSync(module, `export const f = Object.assign(() => 1, { farpool: ${options} })\n`)
    const { code, stderr } = await farpool(['serve', module, '--listen', '127.0.0.1:0', '--log-format', 'pretty'])
    expect([code, stderr]).toEqual([1, expect.stringContaining(message)])
  })
})
