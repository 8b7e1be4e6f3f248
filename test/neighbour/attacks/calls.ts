import { clientOfBuild } from '../../chaos/farpool.js'
import type { Attack, Target } from './target.js'

/** Attacks with farpool's own client: legal calls, too many of them. */

/** The most calls of one attack. */
const MILLION = 1_000_000
const MIB = 1024 * 1024

type Pool = Awaited<ReturnType<typeof poolOf>>

async function poolOf(target: Target, transport: 'stream' | 'unary' = 'stream') {
  const { Pool } = await clientOfBuild(target.options.build)
  const pool = new Pool(target.address, { transport })
  void target.over.then(() => pool.terminate()).catch(() => {})
  return pool
}

/** Keeps `width` calls of one kind under way, over one stream by default. */
const many = (
  what: string,
  width: number | ((target: Target) => number),
  one: (pool: Pool, at: number) => Promise<unknown> | PromiseLike<unknown>,
  transport: 'stream' | 'unary' = 'stream',
): Attack => ({
  what,
  async run(target) {
    const pool = await poolOf(target, transport)
    await target.keep(typeof width === 'number' ? width : width(target), async (at) => void (await one(pool, at)))
  },
})

const large = (bytes: number) => new Uint8Array(bytes).fill(7)
const of1Mib = large(MIB)
const of16Mib = large(16 * MIB)

/** Nested arrays, as deep as a value may be. */
const deep = (depth: number): unknown => {
  let value: unknown = 1
  for (let at = 0; at < depth; at++) value = [value]
  return value
}
const wide = { deep: deep(200), wide: Array.from({ length: 300_000 }, (_, at) => ({ at })) }

export const CALL_ATTACKS: Record<string, Attack> = {
  'apply-flood': {
    what: 'a million applies that do nothing, over one stream, as fast as possible',
    async run(target) {
      const pool = await poolOf(target)
      for (let calls = 0; calls < MILLION && !target.isOver; calls += 1_000) {
        for (let at = 0; at < 1_000; at++) {
          pool
            .applyAsync('noop', [])
            .get()
            .then(
              () => target.did('ok'),
              () => {},
            )
        }
        await new Promise((resolve) => setImmediate(resolve))
      }
    },
  },
  'unary-flood': many(
    'applies that do nothing, 2,000 RPCs under way',
    2_000,
    (pool) => pool.apply('noop', []),
    'unary',
  ),
  'map-million': {
    what: 'maps of a million items, each a chunk of its own',
    async run(target) {
      const pool = await poolOf(target)
      const items = Array.from({ length: MILLION }, (_, at) => at)
      while (!target.isOver) {
        const map = pool.map('twice', items, { chunksize: 1 })
        target.did('maps begun')
        await map
        target.did('maps done')
      }
    },
  },
  'long-tasks': many(
    'tasks of 100 ms, 50 for each worker under way',
    ({ options }) => 50 * options.processes,
    (pool) => pool.apply('busy', [100]),
  ),
  'long-same': many(
    "tasks of 100 ms of the innocent client's own function, 50 for each worker under way",
    ({ options }) => 50 * options.processes,
    (pool) => pool.apply('work', [1, 100]),
  ),
  'payload-1m': many('payloads of 1 MiB, there and back, 8 under way', 8, (pool) => pool.apply('identity', [of1Mib])),
  'payload-16m': many('payloads of 16 MiB, there and back, 2 under way', 2, (pool) =>
    pool.apply('identity', [of16Mib]),
  ),
  cancel: many('calls that are cancelled as soon as they are made, 200 at a time', 200, async (pool) => {
    const result = pool.applyAsync('busy', [1])
    await new Promise((resolve) => setImmediate(resolve))
    result.cancel()
    await result.wait()
  }),
  pools: {
    what: 'pools of one process opened, used once and ended, 4 at a time',
    async run(target) {
      const { Pool } = await clientOfBuild(target.options.build)
      await target.keep(4, async () => {
        await using own = new Pool(target.address, { processes: 1 })
        await own.apply('noop', [])
        return 'pools'
      })
    },
  },
  'pools-unused': {
    what: 'pools of two processes opened and ended at once, 4 at a time',
    async run(target) {
      const { Pool } = await clientOfBuild(target.options.build)
      await target.keep(4, async () => {
        await using own = new Pool(target.address, { processes: 2 })
        await own.info()
        return 'pools'
      })
    },
  },
  cbor: many('values 200 deep and 300,000 objects wide, 4 under way', 4, (pool) => pool.apply('noop', [wide])),
  prints: many('functions that print 1 MB each, 8 under way', 8, (pool) => pool.apply('print', [10_000])),
  errors: many('errors of 1 MB with five causes, 64 under way', 64, (pool) => pool.apply('fail', [1_000_000, 5])),
}
