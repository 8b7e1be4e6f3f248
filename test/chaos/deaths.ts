import { clientOfBuild, isFarpoolError, type Pool } from './farpool.js'
import { keyOf } from './item.js'
import { median } from './measure.js'
import { leftAfter } from './processes.js'
import { ServerUnderTest } from './server.js'
import type { Stage } from './stage.js'

export interface DeathsReport {
  deaths: number
  /** The outcomes of the calls. Each must be a failure. */
  outcomes: Record<string, number>
  /** The time from the kill until no process of the server was left. */
  goneMs: { median: number; worst: number }
  processesLeft: string[]
  filesLeft: string[]
  lost: number
}

const PROCESSES = 2
const GONE_MS = 20_000
const CHECK_EVERY_MS = 5

/** Kills `count` servers whose workers are in endless loops; two at a time. No process or file may be left. */
export async function deaths(count: number, build: string, stage: Stage): Promise<DeathsReport> {
  const report: DeathsReport = {
    deaths: 0,
    outcomes: {},
    goneMs: { median: Number.NaN, worst: Number.NaN },
    processesLeft: [],
    filesLeft: [],
    lost: 0,
  }
  const { Pool } = await clientOfBuild(build)
  const times: number[] = []
  let next = 0
  const one = async () => {
    while (next < count) {
      const number = next++
      const mark = `CHAOS_SERVER=${stage.id}-${number}`
      const env = { ...stage.env, CHAOS_SERVER: `${stage.id}-${number}` }
      const listen = `unix:${stage.socket}-${number}`
      const server = new ServerUnderTest({ build, listen, processes: PROCESSES, drainMs: 0, env })
      await server.start()
      const pool = new Pool(server.address)
      const loops = Array.from({ length: PROCESSES }, (_, at) =>
        pool.apply('loop', [[keyOf(number, at), 0, 0]]).then(
          () => 'ok',
          (error: unknown) => (isFarpoolError(error) ? error.reason : String(error)),
        ),
      )
      await busy(pool)
      const from = performance.now()
      await server.kill()
      report.processesLeft.push(...(await leftAfter(mark, GONE_MS)))
      times.push(performance.now() - from)
      for (const outcome of await Promise.race([Promise.all(loops), late(loops.length)])) {
        report.outcomes[outcome] = (report.outcomes[outcome] ?? 0) + 1
        if (outcome === 'none') report.lost++
      }
      await pool.terminate()
      report.deaths++
    }
  }
  await Promise.all([one(), one()])
  report.filesLeft.push(...stage.files)
  report.goneMs = { median: median(times), worst: Math.max(...times) }
  return report
}

/** Resolves when all workers run their loops. */
async function busy(pool: Pool): Promise<void> {
  for (;;) {
    const { workers } = await pool.info()
    if (workers.filter((worker) => worker.function === 'loop').length === PROCESSES) return
    await new Promise((resolve) => setTimeout(resolve, CHECK_EVERY_MS))
  }
}

/** After GONE_MS: the outcome `none` for each call of a dead server that has not failed. */
const late = (calls: number): Promise<string[]> =>
  new Promise((resolve) => setTimeout(() => resolve(new Array(calls).fill('none')), GONE_MS).unref())
