import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Bug, plantBug } from '../chaos/plant.js'
import { temporaryFolder } from '../support/server.js'
import type { Finding, Played } from './fuzz.js'

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url))
const run = promisify(execFile)
const folder = temporaryFolder()

beforeAll(async () => {
  await run(process.execPath, [path('../../node_modules/typescript/bin/tsc'), '-p', path('.')])
})
afterAll(() => folder.remove())

interface Report {
  readonly played: readonly Played[]
  readonly finding?: Finding
}

/** Runs the fuzzer as `npm run fuzz` does. */
async function fuzz(name: string, ...args: string[]): Promise<{ code: number; said: string; report: Report }> {
  const out = folder.path(`${name}.json`)
  const { code, stderr } = await run(process.execPath, [path('dist/test/fuzz/run.js'), '--out', out, ...args]).then(
    ({ stderr }) => ({ code: 0, stderr }),
    (error: { code: number; stderr: string }) => error,
  )
  return { code, said: stderr, report: JSON.parse(readFileSync(out, 'utf8')) }
}

const RARE: Bug = {
  from: 'const start = () => startApply',
  to: 'if (request.requestId !== "") setImmediate(() => { throw new Error("planted") }); const start = () => startApply',
  what: 'a call with a name ends the server, a little later',
}

const SILENT: Bug = {
  from: 'callback(statusOf(error, options));',
  to: 'if (!String(error.message).includes("group")) callback(statusOf(error, options));',
  what: 'some refusals are never sent',
}

const FRAIL: Bug = {
  from: 'reason = readDetail(detail, facts) ?? reason;\n\t} catch {',
  to: 'reason = readDetail(detail, facts) ?? reason;\n\t} catch (error) { throw error',
  what: 'details of a status that cannot be read end the client',
}

describe('the fuzzer', () => {
  it('finds nothing in a correct build, and reports the answers', async () => {
    const { code, said, report } = await fuzz('sound', '--seed', '3', '--count', '1000')
    expect(said).toBe('')
    expect([code, report.finding]).toEqual([0, undefined])
    expect(report.played.map(({ target }) => target)).toEqual(['requests', 'http2', 'worker', 'client'])
    expect(report.played[0]?.answers).toHaveProperty('0')
    expect(report.played[0]?.answers).toHaveProperty('3 BAD_REQUEST')
  }, 180_000)

  it('names the case that ends a server, and reproduces it alone', async () => {
    const build = plantBug(path('../../dist'), RARE, folder.path('rare'))
    const args = ['--target', 'requests', '--seed', '3', '--build', build]
    const { code, said, report } = await fuzz('rare', ...args, '--count', '3000')
    expect(code).toBe(1)
    expect(report.finding?.what).toContain('planted')
    const { from, to, hex } = report.finding ?? {}
    expect(from).toBe(to)
    expect(said).toContain(`--target requests --seed 3 --only ${from}\n`)
    const again = await fuzz('again', ...args, '--only', String(from))
    expect(again.report.finding).toMatchObject({ from, to, hex })
  }, 180_000)

  it('finds refusals that are never sent', async () => {
    const build = plantBug(path('../../dist'), SILENT, folder.path('silent'))
    const { code, report } = await fuzz('silent', '--target', 'requests', '--build', build, '--count', '3000')
    expect([code, report.finding?.what]).toEqual([
      1,
      expect.stringMatching(/was not (answered within|ended after) \d+ ms/),
    ])
  }, 180_000)

  it('names the answer that ends a client', async () => {
    const build = plantBug(path('../../dist'), FRAIL, folder.path('frail'))
    const { code, report } = await fuzz('frail', '--target', 'client', '--build', build, '--count', '1500')
    expect([code, report.finding?.what]).toEqual([1, expect.stringContaining('the client ended with 1')])
    expect(report.finding?.from).toBe(report.finding?.to)
  }, 180_000)
})

describe('a wrong option of the fuzzer', () => {
  it.each([
    ['a count that is not a number', ['--count', 'x'], '--count is x; it must be an integer from 1'],
    ['an unknown target', ['--target', 'all'], '--target is all; it must be one of requests,'],
    ['a case without a target', ['--only', '7'], '--only is 7; give the --target'],
    [
      'a range that ends before it begins',
      ['--target', 'http2', '--only', '9-7'],
      '--only is 9-7; the second number must not',
    ],
    ['a build that does not exist', ['--build', '/none'], '--build is /none; it must be a folder'],
    ['an unknown option', ['--cout', '7'], "Unknown option '--cout'"],
  ])('is refused with the valid values: %s', async (_, args, message) => {
    const error = await run(process.execPath, [path('dist/test/fuzz/run.js'), ...args]).then(
      () => expect.fail('it should have failed'),
      (error: { code: number; stderr: string }) => error,
    )
    expect(error.code).toBe(1)
    expect(error.stderr).toContain(message)
    expect(error.stderr).not.toContain('    at ')
  })
})
