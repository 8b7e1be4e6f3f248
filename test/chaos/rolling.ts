import { setTimeout as sleep } from 'node:timers/promises'
import { histories } from './chaos.js'
import { check, type Verdict } from './check.js'
import { TrafficClient } from './client.js'
import { executionEvents, type Fault } from './history.js'
import { now } from './item.js'
import type { Options } from './options.js'
import { ServerUnderTest } from './server.js'
import type { Stage } from './stage.js'

export interface RollingReport extends Verdict {
  restarts: number
  /** The number of tasks without a result. */
  failed: number
  complaints: string[]
}

/** The default of farpool serve. */
const DRAIN_MS = 30_000
const CHECK_EVERY_MS = 10
/** The number of tasks that the clients begin between two restarts. */
const TASKS_BETWEEN = 500
/** The longest time for TASKS_BETWEEN tasks. */
const STUCK_MS = 60_000

/** Restarts two servers in turn while clients that know both addresses make calls. Every call must have a result. */
export async function rolling(options: Options, build: string, stage: Stage): Promise<RollingReport> {
  const { processes, seed, lanes } = options
  const env = stage.env
  const servers = [0, 1].map(
    () => new ServerUnderTest({ build, listen: '127.0.0.1:0', processes, drainMs: DRAIN_MS, env }),
  )
  for (const server of servers) await server.start()
  const address = `ipv4:${servers.map((server) => server.address).join(',')}`
  const clients = Array.from({ length: options.clients }, (_, client) => {
    const traffic = {
      client,
      address,
      seed,
      folder: stage.folder,
      build,
      lanes,
      owned: false,
      plain: true,
      localProcesses: 0,
      rate: 0,
    }
    return new TrafficClient(traffic, undefined, env)
  })
  const complaints: string[] = []
  const faults: Fault[] = []
  const remains: string[] = []
  const issued = () => clients.reduce((sum, client) => sum + client.issued, 0)
  const progress = async () => {
    const until = performance.now() + STUCK_MS
    const enough = issued() + TASKS_BETWEEN
    while (issued() < enough && performance.now() < until) await sleep(CHECK_EVERY_MS)
    if (issued() < enough) complaints.push('the clients made no progress')
  }
  for (let restart = 0; restart < options.rolling; restart++) {
    await progress()
    const server = servers[restart % 2] as ServerUnderTest
    faults.push({ kind: 'restart', at: now(), target: server.pid })
    const code = await server.drain()
    if (code !== 0) remains.push(`after SIGTERM a server ended with ${code}`)
    await server.start()
  }
  await progress()
  for (const why of await Promise.all(clients.map((client) => client.finish(options.settle * 1_000)))) {
    if (why) complaints.push(why)
  }
  for (const server of servers) await server.drain()
  remains.push(...(await stage.remains()))
  const verdict = check({
    faults,
    clients: histories(stage.folder),
    executions: executionEvents(stage.folder),
    remains,
  })
  const failed = verdict.tasks - (verdict.outcomes['ok'] ?? 0)
  complaints.push(...servers.flatMap((server) => server.complaints))
  return { restarts: options.rolling, failed, ...verdict, complaints }
}
