import { fileURLToPath } from 'node:url'
import workerpool from 'workerpool'
import { answer, burst, IN_FLIGHT, inFlight, MIB, rate, sequence } from './peer.js'

const options = { workerType: 'process', minWorkers: 2, maxWorkers: 2 } as const
const pool = workerpool.pool(fileURLToPath(new URL('workerpool-worker.js', import.meta.url)), options)

const exec = async (name: string, value: unknown): Promise<unknown> => pool.exec(name, [value])

await answer(
  {
    sequence: (n) => rate(n, () => sequence(n, (i) => exec('noop', i))),
    burst: (n) => rate(n, () => burst(n, (i) => exec('noop', i))),
    echo: (n) => {
      const bytes = new Uint8Array(MIB).fill(7)
      return rate(n, () => inFlight(n, IN_FLIGHT, () => exec('echo', bytes)))
    },
  },
  () => pool.terminate(),
)
