import { fileURLToPath } from 'node:url'
import { FixedClusterPool } from 'poolifier'
import { answerWithPool } from './peer.js'

/** Its pool of processes, with the serialization that carries bytes. */
await answerWithPool({
  open: (processes) =>
    new FixedClusterPool<unknown, unknown>(processes, fileURLToPath(new URL('poolifier-worker.cjs', import.meta.url)), {
      settings: { serialization: 'advanced' },
    }),
  call: (pool, name, value) => pool.execute(value, name),
  close: (pool) => pool.destroy(),
})
