import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { answer, burst, IN_FLIGHT, inFlight, latency, MIB, rate, sequence } from './peer.js'

/** The lower bound: two processes and a Unix socket. The bytes are echoed and counted, but not parsed. */
if (process.argv[2] === 'server') {
  createServer((socket) => socket.pipe(socket)).listen(process.argv[3], () => process.send?.('ready'))
  process.on('disconnect', () => process.exit(0))
} else {
  const folder = mkdtempSync(join(tmpdir(), 'farpool-bench-'))
  const path = join(folder, 'socket')
  const server = fork(fileURLToPath(import.meta.url), ['server', path])
  await once(server, 'message')
  const socket = connect(path)
  const waiting: { bytes: number; resolve: () => void }[] = []
  socket.on('data', ({ length }) => {
    for (let head = waiting[0]; head && length > 0; head = waiting[0]) {
      const taken = Math.min(length, head.bytes)
      head.bytes -= taken
      length -= taken
      if (head.bytes === 0) waiting.shift()?.resolve()
    }
  })
  const call = (message: Buffer): Promise<void> =>
    new Promise((resolve) => {
      waiting.push({ bytes: message.length, resolve })
      socket.write(message)
    })
  const small = Buffer.from([1, 2, 3, 4, 5, 6, 7, 8])
  await answer(
    {
      sequence: (n) => rate(n, () => sequence(n, () => call(small))),
      latency: (n) => latency(n, () => call(small)),
      burst: (n) => rate(n, () => burst(n, () => call(small))),
      echo: (n) => {
        const bytes = Buffer.alloc(MIB, 7)
        return rate(n, () => inFlight(n, IN_FLIGHT, () => call(bytes)))
      },
    },
    () => {
      server.kill()
      rmSync(folder, { recursive: true, force: true })
    },
  )
}
