import { fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { rssOf } from '../cpu.js'
import { work } from './functions.js'
import { answer, rate, WORK_ROUNDS } from './peer.js'

/** The baseline without a pool: the speed, the start and the memory of plain Node processes. */
if (process.argv[2] === 'worker') {
  process.on('message', (n: number) => {
    for (let i = 0; i < n; i++) work(WORK_ROUNDS)
    process.send?.('done')
  })
} else {
  const main = fileURLToPath(import.meta.url)
  const children: ReturnType<typeof fork>[] = []
  const start = () => spawn(process.execPath, ['-e', '0'], { stdio: 'ignore' })

  await answer(
    {
      // It has no calls, so nothing to warm up.
      sequence: async () => ({}),
      work: (n) => {
        while (children.length < 2) children.push(fork(main, ['worker']))
        return rate(n, () =>
          Promise.all(
            children.map((child) => {
              child.send(n / 2)
              return once(child, 'message')
            }),
          ),
        )
      },
      open: async () => {
        const began = performance.now()
        await Promise.all([start(), start()].map((child) => once(child, 'exit')))
        return { ms: performance.now() - began }
      },
      memory: async () => {
        const child = spawn(process.execPath, ['-e', 'process.stdout.write("up"); setInterval(() => {}, 1e6)'])
        await once(child.stdout, 'data')
        // Its memory settles shortly after the start.
        await new Promise((resolve) => setTimeout(resolve, 1_000))
        const worker = rssOf(child.pid ?? 0)
        child.kill()
        return { worker }
      },
    },
    () => {
      for (const child of children) child.kill()
    },
  )
}
