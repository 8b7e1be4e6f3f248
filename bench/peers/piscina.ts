import { fileURLToPath } from 'node:url'
import { Piscina } from 'piscina'
import { answerWithPool } from './peer.js'

/** A pool of threads, not processes. */
await answerWithPool({
  open: (processes) =>
    new Piscina({
      filename: fileURLToPath(new URL('functions.js', import.meta.url)),
      minThreads: processes,
      maxThreads: processes,
    }),
  call: (pool, name, value) => pool.run(value, { name }),
  close: (pool) => pool.destroy(),
})
