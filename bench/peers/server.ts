import { fileURLToPath } from 'node:url'
import { server } from '../built.js'

/** The process of a farpool server. It ends with the process that forked it. */
const [, , listen = 'unix:/tmp/farpool-bench', processes = '2'] = process.argv
const functions = fileURLToPath(new URL('functions.js', import.meta.url))
const running = await server.serve({ modules: [functions], processes: Number(processes), listen, logLevel: 'error' })
process.on('disconnect', async () => {
  await running.stop()
  process.exit(0)
})
process.send?.(running.address)
