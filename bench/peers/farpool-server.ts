import { fork } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { client } from '../built.js'
import { answer, latency, rate } from './peer.js'
import { BenchServer, rssOf } from './with-server.js'

/** Rows about a server: the start of a pool, memory, fairness, a long queue. */
const server = await BenchServer.start(2)
const pool = new client.Pool(server.address)
await pool.apply('noop', [0])

/** A burst of `n` calls: microseconds per call, and the server's memory after it divided by its memory before. */
async function queue(n: number) {
  const before = rssOf(server.pid)
  const { rate: perSecond = 0 } = await rate(n, async () => {
    const results = Array.from({ length: n }, (_, i) => pool.applyAsync('noop', [i]))
    for (const result of results) await result.get()
  })
  // The idle server gives memory back within some seconds.
  if (n > 100_000) await sleep(10_000)
  return { us: 1e6 / perSecond, rss: rssOf(server.pid) / before }
}

/** The latency of single calls while another client has `n` tasks in the pool. */
async function fair(n: number) {
  const greedy = fork(fileURLToPath(new URL('greedy.js', import.meta.url)), [server.address, String(n)])
  const ended = once(greedy, 'exit')
  await once(greedy, 'message')
  // Wait until tasks are queued. With a small `n` they may all be done before that.
  while (greedy.exitCode === null && (await pool.info()).queued < 1_000) await pool.apply('noop', [0])
  const figures = await latency(300, (i) => pool.apply('noop', [i]))
  const { queued } = await pool.info()
  greedy.kill('SIGKILL')
  await ended
  return { ...figures, queued }
}

await answer(
  {
    fair,
    open: async () => {
      const began = performance.now()
      await using own = new client.Pool(server.address, { processes: 2 })
      await own.apply('noop', [0])
      return { ms: performance.now() - began }
    },
    local: async () => {
      const began = performance.now()
      await using own = await client.Pool.local(new URL('functions.js', import.meta.url), { processes: 2 })
      await own.apply('noop', [0])
      return { ms: performance.now() - began }
    },
    memory: async () => {
      const { workers } = await pool.info()
      return { worker: rssOf(workers[0]?.pid ?? 0), server: rssOf(server.pid) }
    },
    queue,
  },
  async () => {
    await pool.terminate()
    await server.stop()
  },
)
