import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, describe, expect, it } from 'vitest'
import { temporaryFolder } from '../support/server.js'

/** A few seconds of each long suite, with the program that its npm script runs. */

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url))
const run = promisify(execFile)
const folder = temporaryFolder()
afterAll(() => folder.remove())

/** Compiles and runs a harness, and returns its report. Fails if the harness does not exit with 0. */
async function runHarness<Report>(name: string, program: string, ...args: string[]): Promise<Report> {
  const out = folder.path(`${name}.json`)
  await run(process.execPath, [path('../../node_modules/typescript/bin/tsc'), '-p', path(`../${name}`)])
  await run(process.execPath, [path(`../${name}/${program}`), '--out', out, ...args])
  return JSON.parse(readFileSync(out, 'utf8'))
}

describe('a short run', () => {
  it('of chaos: each call has one right outcome while workers are killed and connections are cut', async () => {
    const sizes = ['--clients', '1', '--processes', '2', '--lanes', '4', '--seconds', '2', '--seed', '5', '--calm']
    const faults = ['--kill-every', '400', '--cut-every', '1000']
    const { violations, executions } = await runHarness<{ violations: unknown[]; executions: number }>(
      'chaos',
      'dist/run.js',
      ...sizes,
      ...faults,
    )
    expect(violations).toEqual([])
    expect(executions).toBeGreaterThan(0)
  })

  it('of fuzz: the server answers or refuses each mutated request, and goes on', async () => {
    const args = ['--target', 'requests', '--seed', '5', '--count', '100']
    const report = await runHarness<{ finding?: unknown; played: unknown[] }>('fuzz', 'dist/test/fuzz/run.js', ...args)
    expect(report.finding).toBeUndefined()
    expect(report.played).toHaveLength(1)
  })

  it('of neighbour: each call of an innocent client beside a hostile one has its result', async () => {
    const args = ['--here', '--kinds', 'malformed', '--pairs', '1', '--seconds', '0.5']
    const { complaints, kinds } = await runHarness<{ complaints: unknown[]; kinds: { failures: object }[] }>(
      'neighbour',
      'dist/test/neighbour/run.js',
      ...args,
    )
    expect([complaints, kinds.map(({ failures }) => failures)]).toEqual([[], [{}]])
  })

  it('of network: calls have their outcomes after a partition, or this machine allows no namespaces', async () => {
    const vitest = [process.execPath, path('../../node_modules/vitest/vitest.mjs')]
    const tests = ['test/network/partition.test.ts', '-t', 'while all calls run']
    const { stdout } = await run(path('../network/run.sh'), [...vitest, 'run', ...tests], {
      cwd: path('../..'),
      env: { ...process.env, NO_COLOR: '1' },
    })
    expect(stdout).toMatch(/Tests +2 passed|no network namespaces here/)
  })
})
