import { fileURLToPath } from 'node:url'
import workerpool from 'workerpool'
import { answerWithPool } from './peer.js'

await answerWithPool({
  open: (processes) =>
    workerpool.pool(fileURLToPath(new URL('workerpool-worker.js', import.meta.url)), {
      workerType: 'process',
      minWorkers: processes,
      maxWorkers: processes,
    }),
  call: (pool, name, value): PromiseLike<unknown> => pool.exec(name, [value]),
  close: (pool) => pool.terminate(),
})
