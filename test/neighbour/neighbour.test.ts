import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { temporaryFolder } from '../support/server.js'
import { quantile } from './figures.js'
import type { NeighbourReport } from './report.js'

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url))
const run = promisify(execFile)
const RUN = path('dist/test/neighbour/run.js')
const folder = temporaryFolder()

beforeAll(async () => {
  await run(process.execPath, [path('../../node_modules/typescript/bin/tsc'), '-p', path('.')])
})
afterAll(() => folder.remove())

/** Runs the harness as `npm run neighbour` does. Returns its report, also if it found a violation. */
async function neighbour(name: string, ...args: string[]): Promise<NeighbourReport> {
  const out = folder.path(`${name}.json`)
  await run(process.execPath, [RUN, '--out', out, ...args]).catch(() => {})
  return JSON.parse(readFileSync(out, 'utf8'))
}

const refusal = (...args: string[]) =>
  run(process.execPath, [RUN, ...args]).then(
    () => expect.unreachable(),
    ({ code, stderr }: { code: number; stderr: string }) => ({ code, stderr }),
  )

describe('an innocent client beside a hostile one', () => {
  // The hostile client has a normal priority here: on a busy machine one of low priority would do nothing.
  const SHORT = ['--here', '--kinds', 'long-tasks', '--pairs', '1', '--seconds', '1']

  it('has the right result of each call, and the harness reports the times with and without the hostile one', async () => {
    const { kinds, complaints } = await neighbour('sound', ...SHORT, '--kinds', 'long-tasks,malformed,pings')
    expect(complaints).toEqual([])
    expect(kinds.map(({ kind, failures }) => [kind, failures])).toEqual([
      ['long-tasks', {}],
      ['malformed', {}],
      ['pings', {}],
    ])
    for (const { calls, done, ratio } of kinds) {
      expect(calls).toBe(100)
      expect(Object.keys(done).length).toBeGreaterThan(0)
      expect(ratio).toBeGreaterThan(0)
    }
  })

  it('waits longer if the queue is not fair', async () => {
    const [sound, planted] = [
      await neighbour('turns', ...SHORT),
      await neighbour('no-turns', ...SHORT, '--plant', 'no-turns'),
    ]
    const [withTurns, without] = [sound.kinds[0]?.hostile.p50 ?? 0, planted.kinds[0]?.hostile.p50 ?? 0]
    // Each call then waits for a hundred tasks of 100 ms instead of one or two.
    expect(without).toBeGreaterThan(3 * withTurns)
  })
})

describe('the command line of npm run neighbour', () => {
  it.each([
    [['--kinds', 'apply-flood,nonsense'], '--kinds has "nonsense"; it must name some of apply-flood, '],
    [['--seconds', '0'], '--seconds is "0"; it must be a number from 0.1 to 60'],
    [['--pairs', '1.5'], '--pairs is "1.5"; it must be a whole number from 1 to 100'],
    [['--max-running', '65'], '--max-running is "65"; it must be a whole number from 0 to 64'],
    [['--rate', ''], '--rate is ""; it must be a whole number from 1 to 1000'],
    [['--plant', 'nothing'], '--plant is "nothing"; it must be one of '],
    [['--nonsense'], "Unknown option '--nonsense'"],
  ])('refuses %j and names valid values', async (args, why) => {
    const { code, stderr } = await refusal(...args)
    expect([code, stderr]).toEqual([2, expect.stringContaining(why)])
  })
})

it('a quantile is the smallest time that this share of the calls does not exceed', () => {
  const times = Array.from({ length: 100 }, (_, at) => 100 - at)
  expect([quantile(times, 0.5), quantile(times, 0.99), quantile(times, 1)]).toEqual([50, 99, 100])
  expect(quantile([], 0.5)).toBeNaN()
})
