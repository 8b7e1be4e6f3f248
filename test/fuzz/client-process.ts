import { setTimeout as sleep } from 'node:timers/promises'
import { clientOfBuild, isFarpoolError, type Pool } from '../chaos/farpool.js'
import { clientCase, transportOf } from './client-cases.js'
import { ANSWER } from './replies.js'

/** The process of the real client. An uncaught error ends it, and the fuzzer notices. */

export interface ClientCommand {
  readonly type: 'play' | 'verify'
  readonly lane: number
  readonly number: number
  readonly address: string
}

export type ClientReport =
  | { readonly type: 'heartbeat' }
  /** `broken`: a sentence that names the broken rule. */
  | { readonly type: 'done'; readonly lane: number; readonly answer: string; readonly broken?: string }

/** The timeout of a call of a case. */
const TIMEOUT_MS = 200
/** The timeout of a call that must get the right answer. */
const RIGHT_MS = 5_000
/** The number of wrong results after which verify() fails: mutated replies may still be on their way. */
const TRIES = 3
const PAUSE_MS = 20
/** The number of cases before a pool is replaced. */
const CASES_OF_POOL = 100
/**
 * A call without an outcome after this time hangs. Node may not notice the end of a connection whose frames it could not
 * read; the client finds out after some 20 s, and the connections that it tries next may be as bad.
 */
const HANGS_MS = 100_000
const HEARTBEAT_MS = 250

const [build = '', seed = ''] = process.argv.slice(2)
const { Pool: ClientPool } = await clientOfBuild(build)
const pools = new Map<string, { readonly pool: Pool; readonly cases: number }>()

const report = (message: ClientReport): void => void process.send?.(message)
process.on('message', (command: ClientCommand) => void run(command))
process.on('disconnect', () => process.exit(0))
setInterval(() => report({ type: 'heartbeat' }), HEARTBEAT_MS)

async function run({ type, lane, number, address }: ClientCommand): Promise<void> {
  try {
    const isCold = type === 'play' && clientCase(Number(seed), number).isCold
    const pool = isCold ? undefined : poolOf(lane, number, address)
    const answer = pool && type === 'verify' ? verify(pool) : play(pool, number, address)
    report({ type: 'done', lane, answer: await answer })
  } catch (error) {
    report({ type: 'done', lane, answer: '', broken: String((error as Error).stack ?? error) })
  }
}

/** The pool of the lane and transport. It keeps its state from case to case, for CASES_OF_POOL cases. */
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

/** Plays a case. Throws if a call does not have exactly one outcome. */
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
  return new Set(answers).size === 1 ? `many ${answers[0]}` : 'many apply: different outcomes'
}

async function drain(items: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of items);
}

/** One call. Exactly one of its callbacks must be called, once. */
async function apply(pool: Pool): Promise<string> {
  let callbacks = 0
  const count = () => void callbacks++
  const result = pool.applyAsync('f', [1], undefined, { timeout: TIMEOUT_MS, callback: count, errorCallback: count })
  const answer = await outcome('apply', result)
  if (callbacks !== 1) throw new Error(`the callbacks of a call were called ${callbacks} times`)
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
        throw new Error(`${what} failed with an error that is not a FarpoolError: ${error}`, { cause: error })
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
 * The server's replies are right again: a call must soon get the right result. Calls may fail until the client has noticed
 * that its connection was broken and has made a new one.
 */
async function verify(pool: Pool): Promise<string> {
  const end = performance.now() + HANGS_MS
  for (let wrong = 0; ; ) {
    const result: unknown = await Promise.resolve(pool.apply('f', [1], undefined, { timeout: RIGHT_MS })).catch(
      (error: unknown) => error,
    )
    if (result === ANSWER) return 'right'
    // A mutated reply may still be on its way.
    if (!isFarpoolError(result)) wrong++
    if (wrong === TRIES || performance.now() > end)
      throw new Error(`a later call, which got the right reply, ended with ${result}`)
    await sleep(PAUSE_MS)
  }
}
