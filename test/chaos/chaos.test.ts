import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { temporaryFolder } from '../support/server.js'
import type { ChaosReport } from './chaos.js'
import type { DeathsReport } from './deaths.js'

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url))
const run = promisify(execFile)
const folder = temporaryFolder()

beforeAll(async () => {
  await run(process.execPath, [path('../../node_modules/typescript/bin/tsc'), '-p', path('.')])
})
afterAll(() => folder.remove())

/** Runs the harness as `npm run chaos` does. */
async function runHarness<Report>(name: string, args: string[]): Promise<Report> {
  const out = folder.path(`${name}.json`)
  // The histories of a run with violations stay in that folder.
  const env = { ...process.env, TMPDIR: folder.path('') }
  await run(process.execPath, [path('dist/test/chaos/run.js'), '--out', out, ...args], { env }).catch(() => {})
  return JSON.parse(readFileSync(out, 'utf8'))
}

/** Runs chaos. Returns the report and the rules that were violated. */
async function chaos(name: string, ...args: string[]): Promise<{ report: ChaosReport; broken: string[] }> {
  const sizes = ['--clients', '2', '--processes', '2', '--lanes', '4']
  const report = await runHarness<ChaosReport>(name, [...sizes, ...args])
  return { report, broken: report.violations.map(({ rule }) => rule) }
}

const tasks = (count: number): string[] => ['--tasks', String(count), '--seconds', '60']

describe('chaos', () => {
  it('breaks no rule while workers are killed and stopped and connections are cut', async () => {
    const paces = ['--kill-every', '300', '--stop-every', '700', '--cut-every', '2000', '--client-kill-every', '3000']
    const { report, broken } = await chaos('sound', '--seed', '7', '--seconds', '5', '--calm', ...paces)
    expect(broken, JSON.stringify(report.violations, null, 2)).toEqual([])
    expect(report.executions).toBeGreaterThan(0)
    expect(report.faults).toHaveProperty('kill')
  })

  it('breaks no rule of local pools while workers are killed and stopped and clients are killed', async () => {
    const paces = ['--kill-every', '300', '--stop-every', '700', '--client-kill-every', '3000']
    const { report, broken } = await chaos('local', '--local', '--seed', '7', '--seconds', '5', '--calm', ...paces)
    expect(broken, JSON.stringify(report.violations, null, 2)).toEqual([])
    expect(report.executions).toBeGreaterThan(0)
    expect(report.faults).toHaveProperty('kill')
  })

  // The runs with planted bugs end after a number of tasks, because a busy machine does little in a given time.
  it('finds a scheduler that drops an outcome', async () => {
    const { broken } = await chaos('drop', ...tasks(1_000), '--settle', '2', '--calm', '--plant', 'drop-outcome')
    expect(broken).toContain('lost')
  })

  it('finds started tasks that run again', async () => {
    const kills = ['--kill-every', '150', ...tasks(12_000)]
    const { broken } = await chaos('rerun', ...kills, '--settle', '5', '--calm', '--plant', 'rerun-started')
    expect(broken).toContain('duplicated')
  })

  it('finds workers that are not killed', async () => {
    const { broken } = await chaos('leak', ...tasks(1_000), '--settle', '2', '--calm', '--plant', 'deaf-kill')
    expect(broken).toContain('remains')
  })

  it('finds workers that outlive a killed server', async () => {
    const report = await runHarness<DeathsReport>('orphans', ['--deaths', '1', '--plant', 'no-reaper'])
    expect(report.processesLeft).not.toEqual([])
  })
})
