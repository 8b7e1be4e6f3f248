import { fileURLToPath } from 'node:url'
import { setFlagsFromString } from 'node:v8'
import { server } from '../built.js'

/** The process of a farpool server. It ends with the process that forked it. */
const [, , , count, tlsCert, tlsKey] = process.argv
const processes = Number(count)
const functions = fileURLToPath(new URL('functions.js', import.meta.url))
// As farpool serve does (cli/serve-command.ts).
setFlagsFromString('--heap-growing-percent=300')
const running = await server.serve({
  modules: [functions],
  processes,
  listen: '127.0.0.1:0',
  ...(tlsCert !== undefined && tlsKey !== undefined && { tlsCert, tlsKey }),
  logLevel: 'error',
})
process.on('disconnect', async () => {
  await running.stop()
  process.exit(0)
})
process.send?.(running.address)
