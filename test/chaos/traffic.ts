import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Calls, type Numbers } from './calls.js'
import { clientOfBuild, type Pool } from './farpool.js'
import { clientFile, HistoryFile } from './history.js'
import { now } from './item.js'
import { nextPlainStep, nextPool, nextStep, type PoolPlan } from './plan.js'
import { Random } from './random.js'

/**
 * A client process. It has several lanes; each lane makes one step after another, as its plan says. The harness forks the
 * process and may kill it at any time.
 */
export interface TrafficOptions {
  readonly client: number
  readonly address: string
  readonly seed: number
  readonly folder: string
  readonly build: string
  readonly lanes: number
  /** True: one more lane opens owned pools. */
  readonly owned: boolean
  /** True: only calls that neither fail by themselves nor are cancelled. */
  readonly plain: boolean
  /** Above 0: instead of the server, two local pools of so many processes each, and local pools only. */
  readonly localProcesses: number
  /** Items per second of all lanes together; 0: no limit. */
  readonly rate: number
}

/** A message from the harness to a client process. */
export type TrafficCommand = { type: 'finish' } | { type: 'rate'; rate: number }
/** A message from a client process to the harness. */
export type TrafficReport =
  | { type: 'issued'; items: number; open: number }
  | { type: 'workers'; pids: number[] }
  | { type: 'done'; items: number }

const REPORT_EVERY_MS = 100
/** The pause after a call that found no server. */
const AWAY_MS = 300

const options: TrafficOptions = JSON.parse(String(process.argv[2]))
const history = new HistoryFile(clientFile(options.folder, options.client))
const calls = new Calls(options.client, history)
const { Pool: FarPool } = await clientOfBuild(options.build)
const FUNCTIONS = fileURLToPath(new URL('functions.js', import.meta.url))
const report = (message: TrafficReport) => void (process.connected && process.send?.(message))

let isFinishing = false
let { rate } = options
let began = performance.now()
let before = 0
let pools = 0

process.on('message', (command: TrafficCommand) => {
  if (command.type === 'finish') isFinishing = true
  else {
    ;({ rate } = command)
    began = performance.now()
    before = calls.issued
  }
})
process.on('unhandledRejection', (error) => {
  history.add(
    'U',
    String(error instanceof Error ? error.stack : error)
      .replaceAll(/\s+/g, ' ')
      .slice(0, 600),
  )
})
// The harness has ended.
process.on('disconnect', () => process.exit(1))

/** Waits while the client is ahead of its rate. */
async function pace(): Promise<void> {
  while (rate > 0 && !isFinishing) {
    const ahead = ((calls.issued - before) / rate) * 1_000 - (performance.now() - began)
    if (ahead <= 0) return
    await sleep(Math.min(ahead, 1_000))
  }
}

function opened(type: 'shared' | 'owned' | 'local'): number {
  history.add('P', ++pools, type, now().toFixed(3))
  return pools
}

async function sharedLane(lane: number, pool: Pool, number: number, numbers: Numbers): Promise<void> {
  const random = new Random(options.seed, options.client, lane)
  while (!isFinishing) {
    await pace()
    if (!(await calls.step(pool, number, (options.plain ? nextPlainStep : nextStep)(random), numbers, random)))
      await sleep(AWAY_MS)
  }
}

async function ownedLane(lane: number, numbers: Numbers): Promise<void> {
  const random = new Random(options.seed, options.client, lane)
  while (!isFinishing) {
    await pace()
    await ownedPool(nextPool(random), numbers, random)
  }
}

async function ownedPool(plan: PoolPlan, numbers: Numbers, random: Random): Promise<void> {
  let pool: Pool
  try {
    pool =
      plan.local || options.localProcesses > 0
        ? await FarPool.local(FUNCTIONS, { ...plan.options, output: 'ignore' })
        : new FarPool(options.address, plan.options)
  } catch {
    return void (await sleep(AWAY_MS))
  }
  const isLocal = plan.local || options.localProcesses > 0
  const number = opened(isLocal ? 'local' : 'owned')
  if (!isLocal) {
    const pids = pool.info().then(({ workers }) => workers.map(({ pid }) => pid))
    pids.then(
      (pids) => report({ type: 'workers', pids }),
      () => {},
    )
  }
  const steps = (async () => {
    for (const step of plan.steps) if (!(await calls.step(pool, number, step, numbers, random))) return
  })()
  if (plan.end === 'amid') await sleep(plan.amidAfter)
  else await steps
  history.add('X', number, now().toFixed(3))
  if (plan.end === 'join') {
    await pool.close()
    await pool.join()
  } else await pool.terminate()
  history.add('T', number, now().toFixed(3))
  await steps
}

const stride = options.lanes + 1
const openLocal = () => FarPool.local(FUNCTIONS, { processes: options.localProcesses, output: 'ignore' })
const isLocal = options.localProcesses > 0
const stream = isLocal ? await openLocal() : new FarPool(options.address)
const unary = isLocal ? await openLocal() : new FarPool(options.address, { transport: 'unary' })
const numbered = [stream, unary].map((pool) => ({ pool, number: opened(isLocal ? 'local' : 'shared') }))
const reportWorkers = async () => {
  const infos = await Promise.all([stream.info(), unary.info()])
  const able = infos.flatMap(({ workers }) => workers.filter(({ state }) => state === 'busy' || state === 'idle'))
  report({ type: 'workers', pids: able.map(({ pid }) => pid) })
}
const watching = isLocal ? setInterval(() => void reportWorkers(), REPORT_EVERY_MS) : undefined
const reporting = setInterval(() => report({ type: 'issued', items: calls.issued, open: calls.open }), REPORT_EVERY_MS)

const lanes = Array.from({ length: options.lanes }, (_, lane) => {
  // One lane in four uses the unary transport: one RPC per call.
  const { pool, number } = numbered[lane % 4 === 3 ? 1 : 0] ?? { pool: stream, number: 1 }
  return sharedLane(lane, pool, number, { next: lane, stride })
})
if (options.owned) lanes.push(ownedLane(options.lanes, { next: options.lanes, stride }))
await Promise.all(lanes)
clearInterval(reporting)
clearInterval(watching)
await Promise.all([stream.terminate(), unary.terminate()])
history.add('D')
history.flush()
report({ type: 'done', items: calls.issued })
process.disconnect()
