import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, describe, expect, it } from 'vitest'
import { temporaryFolder } from '../support/server.js'

/** A few seconds of each heavy suite, as `npm run chaos`, `npm run fuzz` and `npm run neighbour` run it. */

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url))
const run = promisify(execFile)
const folder = temporaryFolder()
afterAll(() => folder.remove())

/** Builds and runs a harness; returns its report. It must end with 0. */
async function taste<Report>(name: string, program: string, ...args: string[]): Promise<Report> {
  const out = folder.path(`${name}.json`)
  await run(process.execPath, [path('../../node_modules/typescript/bin/tsc'), '-p', path(`../${name}`)])
  await run(process.execPath, [path(`../${name}/${program}`), '--out', out, ...args])
  return JSON.parse(readFileSync(out, 'utf8'))
}

describe('a taste of', () => {
  it('chaos: every call has one right outcome while workers are killed and connections are cut', async () => {
    const sizes = ['--clients', '1', '--processes', '2', '--lanes', '4', '--seconds', '3', '--seed', '5', '--calm']
    const faults = ['--kill-every', '400', '--cut-every', '1000']
    const report = await taste<{ violations: unknown[]; executions: number }>(
      'chaos',
      'dist/run.js',
      ...sizes,
      ...faults,
    )
    expect(report.violations).toEqual([])
    expect(report.executions).toBeGreaterThan(0)
  })

  it('fuzz: mutated requests are answered or refused, and the server lives', async () => {
    const args = ['--target', 'requests', '--seed', '5', '--count', '300']
    const report = await taste<{ finding?: unknown; played: unknown[] }>('fuzz', 'dist/test/fuzz/run.js', ...args)
    expect(report.finding).toBeUndefined()
    expect(report.played).toHaveLength(1)
  })

  it('neighbours: every call beside a hostile client is answered rightly', async () => {
    const args = ['--here', '--kinds', 'malformed', '--pairs', '1', '--seconds', '0.5']
    const report = await taste<{ complaints: unknown[]; kinds: { failures: object }[] }>(
      'neighbour',
      'dist/test/neighbour/run.js',
      ...args,
    )
    expect([report.complaints, report.kinds.map(({ failures }) => failures)]).toEqual([[], [{}]])
  })
})
