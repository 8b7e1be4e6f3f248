import { fileURLToPath } from 'node:url'
import { client } from '../built.js'
import { rssOf } from '../cpu.js'
import { answer, callRows, input, type RunRow, rate } from './peer.js'
import { serverRows } from './server-rows.js'
import { BenchServer } from './with-server.js'

/** farpool with a pool in this program (`local`), or with a server in another process, on TCP (`remote`), also with TLS. */
const [, , side = 'local', count = '2', security] = process.argv
const processes = Number(count)
const FUNCTIONS = fileURLToPath(new URL('functions.js', import.meta.url))
type Functions = typeof import('./functions.js')

const server = side === 'remote' ? await BenchServer.start(processes, security === 'tls') : undefined
const pool = server
  ? new client.Pool<Functions>(server.address, server.options)
  : await client.Pool.local<Functions>(FUNCTIONS, { processes })
await pool.info()

const drain = async (results: AsyncIterable<unknown>) => {
  for await (const _ of results);
}

const mapRow =
  <T>(inputOf: (n: number) => T[], body: (items: T[]) => Promise<unknown>): RunRow =>
  (n) => {
    const items = inputOf(n)
    return rate(n, () => body(items))
  }
const map = (items: unknown[]) => pool.map('noop', items)

const rows: Record<string, RunRow> = {
  ...callRows((name, value) => pool.applyAsync(name as 'noop', [value]), processes),
  'map-integers': mapRow(input.integers, map),
  'map-floats': mapRow(input.floats, map),
  'map-strings': mapRow(input.strings, map),
  'map-1': mapRow(input.integers, (items) => pool.map('noop', items, { chunksize: 1 })),
  'imap-1': mapRow(input.integers, (items) => drain(pool.imap('noop', items))),
  'imap-unordered-1000': mapRow(input.integers, (items) =>
    drain(pool.imapUnordered('noop', items, { chunksize: 1000 })),
  ),
  open: async () => {
    const began = performance.now()
    await using own = server
      ? new client.Pool<Functions>(server.address, { ...server.options, processes: 2 })
      : await client.Pool.local<Functions>(FUNCTIONS, { processes: 2 })
    await own.apply('noop', [0])
    return { ms: performance.now() - began }
  },
  memory: async () => {
    const { workers } = await pool.info()
    const own = { worker: rssOf(workers[0]?.pid ?? 0), caller: rssOf(process.pid) }
    return server ? { ...own, server: rssOf(server.pid) } : own
  },
}

await answer(server ? { ...rows, ...serverRows(pool, server) } : rows, async () => {
  await pool.terminate()
  await server?.stop()
})
