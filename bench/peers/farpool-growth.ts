import { client } from '../built.js'
import { answer, burst, type Figures, inFlight } from './peer.js'
import { BenchServer } from './with-server.js'

/** The cost of one item in microseconds, for the curves of growth.ts. */
const server = await BenchServer.start(2)
const pools = Array.from({ length: 64 }, () => new client.Pool(server.address))
const pool = pools[0] as (typeof pools)[number]
await pool.apply('noop', [0])

async function microseconds(per: number, body: () => Promise<unknown>): Promise<Figures> {
  const began = performance.now()
  await body()
  return { y: ((performance.now() - began) * 1000) / per }
}

await answer(
  {
    queued: (n) =>
      microseconds(n, async () => {
        const results = Array.from({ length: n }, (_, i) => pool.applyAsync('noop', [i]))
        for (const result of results) await result.get()
      }),
    clients: (n) =>
      microseconds(n * 2_000, () =>
        Promise.all(pools.slice(0, n).map((own) => burst(2_000, (i) => own.applyAsync('noop', [i])))),
      ),
    processes: async (n) => {
      await using own = new client.Pool(server.address, { processes: n })
      await burst(1_000, (i) => own.applyAsync('noop', [i]))
      return await microseconds(50_000, () => burst(50_000, (i) => own.applyAsync('noop', [i])))
    },
    payload: (bytes) => {
      const value = new Uint8Array(bytes).fill(7)
      const calls = Math.max(4, Math.min(4_000, Math.floor((64 * 1024 ** 2) / bytes)))
      return microseconds((calls * bytes) / 1024, () => inFlight(calls, 4, () => pool.apply('echo', [value])))
    },
  },
  async () => {
    for (const own of pools) await own.terminate()
    await server.stop()
  },
)
