import { fileURLToPath } from 'node:url'
import { client } from '../built.js'
import { answer, burst, IN_FLIGHT, inFlight, input, latency, MIB, rate, sequence, WORK_ROUNDS } from './peer.js'

const FUNCTIONS = fileURLToPath(new URL('functions.js', import.meta.url))

const pool = await client.Pool.local<typeof import('./functions.js')>(FUNCTIONS, { processes: 2 })

const drain = async (results: AsyncIterable<unknown>) => {
  for await (const _ of results);
}

await answer(
  {
    sequence: (n) => rate(n, () => sequence(n, (i) => pool.apply('noop', [i]))),
    latency: (n) => latency(n, (i) => pool.apply('noop', [i])),
    burst: (n) => rate(n, () => burst(n, (i) => pool.applyAsync('noop', [i]))),
    'map-integers': (n) => {
      const items = input.integers(n)
      return rate(n, () => pool.map('noop', items))
    },
    'map-floats': (n) => {
      const items = input.floats(n)
      return rate(n, () => pool.map('noop', items))
    },
    'map-strings': (n) => {
      const items = input.strings(n)
      return rate(n, () => pool.map('noop', items))
    },
    'map-1': (n) => {
      const items = input.integers(n)
      return rate(n, () => pool.map('noop', items, { chunksize: 1 }))
    },
    'imap-1': (n) => {
      const items = input.integers(n)
      return rate(n, () => drain(pool.imap('noop', items)))
    },
    'imap-unordered-1000': (n) => {
      const items = input.integers(n)
      return rate(n, () => drain(pool.imapUnordered('noop', items, { chunksize: 1000 })))
    },
    echo: (n) => {
      const bytes = new Uint8Array(MIB).fill(7)
      return rate(n, () => inFlight(n, IN_FLIGHT, () => pool.apply('echo', [bytes])))
    },
    work: (n) => rate(n, () => burst(n, () => pool.applyAsync('work', [WORK_ROUNDS]))),
  },
  () => pool.terminate(),
)
