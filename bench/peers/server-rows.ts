import { fork } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { client } from '../built.js'
import { rssOf } from '../cpu.js'
import { latency, type RunRow, rate } from './peer.js'
import type { BenchServer } from './with-server.js'

type Pool = InstanceType<typeof client.Pool<typeof import('./functions.js')>>

/** Rows about a server: fairness, a long queue. */
export const serverRows = (pool: Pool, server: BenchServer): Record<string, RunRow> => ({
  /** The latency of single calls while another client has `n` tasks in the pool. */
  fair: async (n) => {
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
  },

  /** A burst of `n` calls: microseconds per call, and the server's memory after it divided by its memory before. */
  queue: async (n) => {
    const before = rssOf(server.pid)
    const { rate: perSecond = 0 } = await rate(n, async () => {
      const results = Array.from({ length: n }, (_, i) => pool.applyAsync('noop', [i]))
      for (const result of results) await result.get()
    })
    // The idle server gives memory back within some seconds.
    if (n > 100_000) await sleep(10_000)
    return { us: 1e6 / perSecond, rss: rssOf(server.pid) / before }
  },
})
