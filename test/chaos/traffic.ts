import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Calls, type Numbers } from './calls.js'
import { clientOfBuild, type Pool } from './farpool.js'
import { clientFile, HistoryFile } from './history.js'
import { now } from './item.js'
import { nextPlainStep, nextPool, nextStep, type PoolPlan } from './plan.js'
import { Random } from './random.js'

/**
 * A client process: several lanes, each of which makes one step after another as its plan says. The harness forks it,
 * and may kill it at any time.
 */
export interface TrafficOptions {
  readonly client: number
  readonly address: string
  readonly seed: number
  readonly folder: string
  readonly build: string
  readonly lanes: number
  /** Whether one more lane opens pools of its own. */
  readonly owned: boolean
  /** Nothing that fails by itself, or is given up. */
  readonly plain: boolean
  /** Items a second, of all lanes together; 0 for as many as there can be. */
  readonly rate: number
}

/** What the harness says, and what it is told. */
export type ToTraffic = { what: 'finish' } | { what: 'rate'; rate: number }
export type FromTraffic =
  | { what: 'issued'; items: number; open: number }
  | { what: 'workers'; pids: number[] }
  | { what: 'done'; items: number }

const TELL_MS = 100
/** Where no server was there: so long until the next try. */
const AWAY_MS = 300

const options: TrafficOptions = JSON.parse(String(process.argv[2]))
const history = new HistoryFile(clientFile(options.folder, options.client))
const calls = new Calls(options.client, history)
const { Pool: FarPool } = await clientOfBuild(options.build)
const FUNCTIONS = fileURLToPath(new URL('functions.js', import.meta.url))
const tell = (said: FromTraffic) => void (process.connected && process.send?.(said))

let isFinishing = false
let { rate } = options
let began = performance.now()
let before = 0
let pools = 0

process.on('message', (said: ToTraffic) => {
  if (said.what === 'finish') isFinishing = true
  else {
    ;({ rate } = said)
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
// Without the harness nobody reads on.
process.on('disconnect', () => process.exit(1))

/** Keeps to the rate: what is ahead of it waits. */
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
    pool = plan.local
      ? await FarPool.local(FUNCTIONS, { ...plan.options, logLevel: 'silent' })
      : new FarPool(options.address, plan.options)
  } catch {
    return void (await sleep(AWAY_MS))
  }
  const number = opened(plan.local ? 'local' : 'owned')
  if (!plan.local) {
    const pids = pool.info().then(({ workers }) => workers.map(({ pid }) => pid))
    pids.then(
      (pids) => tell({ what: 'workers', pids }),
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
const stream = new FarPool(options.address)
const unary = new FarPool(options.address, { transport: 'unary' })
const numbered = [stream, unary].map((pool) => ({ pool, number: opened('shared') }))
const telling = setInterval(() => tell({ what: 'issued', items: calls.issued, open: calls.open }), TELL_MS)

const lanes = Array.from({ length: options.lanes }, (_, lane) => {
  // One lane in four makes an RPC of each call.
  const { pool, number } = numbered[lane % 4 === 3 ? 1 : 0] ?? { pool: stream, number: 1 }
  return sharedLane(lane, pool, number, { next: lane, stride })
})
if (options.owned) lanes.push(ownedLane(options.lanes, { next: options.lanes, stride }))
await Promise.all(lanes)
clearInterval(telling)
await Promise.all([stream.terminate(), unary.terminate()])
history.add('D')
history.flush()
tell({ what: 'done', items: calls.issued })
process.disconnect()
