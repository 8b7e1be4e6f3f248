import { fileURLToPath } from 'node:url'
import { Tinypool } from 'tinypool'
import { answerWithPool } from './peer.js'

await answerWithPool({
  open: (processes) =>
    new Tinypool({
      runtime: 'child_process',
      filename: fileURLToPath(new URL('functions.js', import.meta.url)),
      minThreads: processes,
      maxThreads: processes,
    }),
  call: (pool, name, value) => pool.run(value, { name }),
  close: (pool) => pool.destroy(),
})
