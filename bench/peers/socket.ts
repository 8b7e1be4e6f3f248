import { fork } from 'node:child_process'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer } from 'node:net'
import { fileURLToPath } from 'node:url'
import { answer, burst, IN_FLIGHT, inFlight, latency, MIB, rate } from './peer.js'

/** The lower bound: two processes and a TCP connection. The bytes are echoed and counted, but not parsed. */
if (process.argv[2] === 'server') {
  const server = createServer({ noDelay: true }, (socket) => socket.pipe(socket))
  server.listen(0, '127.0.0.1', () => process.send?.((server.address() as AddressInfo).port))
  process.on('disconnect', () => process.exit(0))
} else {
  const server = fork(fileURLToPath(import.meta.url), ['server'])
  const [port] = await once(server, 'message')
  const socket = connect({ port, host: '127.0.0.1', noDelay: true })
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
      sequence: (n) => latency(n, () => call(small)),
      burst: (n) => rate(n, () => burst(n, () => call(small))),
      echo: (n) => {
        const bytes = Buffer.alloc(MIB, 7)
        return rate(n, () => inFlight(n, IN_FLIGHT, () => call(bytes)))
      },
    },
    () => server.kill(),
  )
}
