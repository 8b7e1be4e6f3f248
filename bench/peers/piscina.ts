import { fileURLToPath } from 'node:url'
import { Piscina } from 'piscina'
import { answer, burst, IN_FLIGHT, inFlight, MIB, rate, sequence } from './peer.js'

/** A pool of threads, not processes. */
const pool = new Piscina({
  filename: fileURLToPath(new URL('functions.js', import.meta.url)),
  minThreads: 2,
  maxThreads: 2,
})

await answer(
  {
    sequence: (n) => rate(n, () => sequence(n, (i) => pool.run(i, { name: 'noop' }))),
    burst: (n) => rate(n, () => burst(n, (i) => pool.run(i, { name: 'noop' }))),
    echo: (n) => {
      const bytes = new Uint8Array(MIB).fill(7)
      return rate(n, () => inFlight(n, IN_FLIGHT, () => pool.run(bytes, { name: 'echo' })))
    },
  },
  () => pool.destroy(),
)
