import { setTimeout as sleep } from 'node:timers/promises'
import { clientOfBuild, isFarpoolError, type Pool } from '../chaos/farpool.js'
import { clientCase, transportOf } from './client-cases.js'
import { ANSWER } from './replies.js'

/** The real client, in a process of its own: what nobody catches ends it. */

export interface Ask {
  readonly what: 'play' | 'verify'
  readonly lane: number
  readonly number: number
  readonly address: string
}

export type Told =
  | { readonly what: 'beat' }
  /** `broken`: a rule that was, as a sentence. */
  | { readonly what: 'done'; readonly lane: number; readonly answer: string; readonly broken?: string }

/** Calls that get no answer end after so long. */
const TIMEOUT_MS = 500
/** And those that are to be answered rightly. */
const RIGHT_MS = 5_000
/** So many wrong results may come of words that were still on their way. */
const TRIES = 3
const PAUSE_MS = 20
/** So often a pool is used, where each of its connections may be broken. */
const CASES_OF_POOL = 100
/**
 * A call that has no outcome by then never has. Node may not notice that a connection whose frames it could not read has
 * been closed: a keepalive finds that out after 15 s.
 */
const HANGS_MS = 45_000
const BEAT_MS = 250

const [build = '', seed = ''] = process.argv.slice(2)
const { Pool: ClientPool } = await clientOfBuild(build)
const pools = new Map<string, { readonly pool: Pool; readonly cases: number }>()

const tell = (told: Told): void => void process.send?.(told)
process.on('message', (ask: Ask) => void answer(ask))
process.on('disconnect', () => process.exit(0))
setInterval(() => tell({ what: 'beat' }), BEAT_MS)

async function answer({ what, lane, number, address }: Ask): Promise<void> {
  try {
    const isCold = what === 'play' && clientCase(Number(seed), number).isCold
    const pool = isCold ? undefined : poolOf(lane, number, address)
    const answer = pool && what === 'verify' ? verify(pool) : play(pool, number, address)
    tell({ what: 'done', lane, answer: await answer })
  } catch (error) {
    tell({ what: 'done', lane, answer: '', broken: String((error as Error).stack ?? error) })
  }
}

/** The one of the lane, for this way, as it was left by the case before. */
function poolOf(lane: number, number: number, address: string): Pool {
  const transport = transportOf(number)
  const key = `${lane} ${transport}`
  const { pool, cases } = pools.get(key) ?? { pool: undefined, cases: 0 }
  if (pool && cases < CASES_OF_POOL) {
    pools.set(key, { pool, cases: cases + 1 })
    return pool
  }
  void pool?.terminate()
  const fresh = new ClientPool(address, { transport })
  pools.set(key, { pool: fresh, cases: 0 })
  return fresh
}

/** Each call of the case has one outcome. */
async function play(warm: Pool | undefined, number: number, address: string): Promise<string> {
  const pool = warm ?? new ClientPool(address, { transport: transportOf(number) })
  const answer = await call(pool, number, address)
  if (!warm) await outcome('terminate', pool.terminate())
  return answer
}

function call(pool: Pool, number: number, address: string): Promise<string> {
  switch (clientCase(Number(seed), number).call) {
    case 'apply':
      return apply(pool)
    case 'burst':
      return burst(pool)
    case 'map':
      return outcome('map', pool.map('f', [1, 2, 3, 4, 5], { chunksize: 2, timeout: TIMEOUT_MS }))
    case 'imap':
      return outcome('imap', drain(pool.imap('f', [1, 2, 3])))
    case 'info':
      return outcome('info', pool.info())
    case 'functions':
      return outcome('functions', pool.functions())
    case 'own':
      return own(new ClientPool(address, { processes: 1, transport: transportOf(number) }))
  }
}

async function own(pool: Pool): Promise<string> {
  const answer = await apply(pool)
  await outcome('terminate', pool.terminate())
  return answer
}

async function burst(pool: Pool): Promise<string> {
  const answers = await Promise.all(Array.from({ length: 5 }, () => apply(pool)))
  return new Set(answers).size === 1 ? `many ${answers[0]}` : 'many apply: one thing and another'
}

async function drain(items: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of items);
}

/** One outcome, told once to either of the callbacks. */
async function apply(pool: Pool): Promise<string> {
  let told = 0
  const count = () => void told++
  const result = pool.applyAsync('f', [1], undefined, { timeout: TIMEOUT_MS, callback: count, errorCallback: count })
  const answer = await outcome('apply', result)
  if (told !== 1) throw new Error(`the callbacks of a call were called ${told} times`)
  return answer
}

async function outcome(what: string, call: PromiseLike<unknown>): Promise<string> {
  let timer: NodeJS.Timeout | undefined
  const hangs = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} has no outcome after ${HANGS_MS} ms`)), HANGS_MS)
  })
  const settled = Promise.resolve(call).then(
    () => `${what}: a result`,
    (error: unknown) => {
      if (!isFarpoolError(error))
        throw new Error(`${what} failed with what is no FarpoolError: ${error}`, { cause: error })
      return `${what}: ${error.reason}`
    },
  )
  try {
    return await Promise.race([settled, hangs])
  } finally {
    clearTimeout(timer)
  }
}

/**
 * Answers are right again: so are results, as soon as the client has noticed. What has failed before may be a connection
 * that was broken, and is made anew after a pause; where none has ever been, calls do not wait for it.
 */
async function verify(pool: Pool): Promise<string> {
  const end = performance.now() + HANGS_MS
  for (let wrong = 0; ; ) {
    const result: unknown = await Promise.resolve(pool.apply('f', [1], undefined, { timeout: RIGHT_MS })).catch(
      (error: unknown) => error,
    )
    if (result === ANSWER) return 'right'
    // What was said in a broken voice may still be on its way.
    if (!isFarpoolError(result)) wrong++
    if (wrong === TRIES || performance.now() > end)
      throw new Error(`a later call that was answered rightly came back as ${result}`)
    await sleep(PAUSE_MS)
  }
}
