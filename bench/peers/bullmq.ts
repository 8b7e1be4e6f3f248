import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Queue, QueueEvents, Worker } from 'bullmq'
import { answer, burst, latency, rate } from './peer.js'

/** BullMQ with two worker processes. Starts its own Redis: in memory, on a Unix socket. */
const connectionTo = (path: string) => ({ path, maxRetriesPerRequest: null })

if (process.argv[2] === 'worker') {
  process.stdin.resume().on('end', () => process.exit(0))
  const connection = connectionTo(String(process.argv[3]))
  new Worker('noop', async (job) => job.data.value, { connection, concurrency: 50 })
} else {
  const folder = mkdtempSync(join(tmpdir(), 'farpool-bench-'))
  const path = join(folder, 'redis')
  const connection = connectionTo(path)
  const settings = ['--port', '0', '--unixsocket', path, '--save', '', '--appendonly', 'no']
  // The clients retry until Redis is up.
  const redis = spawn('redis-server', settings, { stdio: 'ignore' })
  redis.on('error', () => process.exit(1))
  await new Promise((resolve) => redis.once('spawn', resolve))
  const main = fileURLToPath(import.meta.url)
  // Redis ends with this process, also after an error.
  process.on('exit', () => {
    redis.kill('SIGKILL')
    rmSync(folder, { recursive: true, force: true })
  })
  const workers = [1, 2].map(() =>
    spawn(process.execPath, [main, 'worker', path], { stdio: ['pipe', 'ignore', 'inherit'] }),
  )
  const queue = new Queue('noop', { connection, defaultJobOptions: { removeOnComplete: 200_000 } })
  const events = new QueueEvents('noop', { connection })
  await events.waitUntilReady()

  // Each waiting call adds a listener.
  for (const emitter of [queue, events]) emitter.setMaxListeners(0)
  const call = async (i: number) => (await queue.add('noop', { value: i })).waitUntilFinished(events)
  await call(0)
  await answer(
    {
      sequence: (n) => latency(n, call),
      burst: (n) => rate(n, () => burst(n, call)),
    },
    async () => {
      for (const child of [...workers, redis]) child.kill('SIGKILL')
      await once(redis, 'exit')
    },
  )
}
