import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { Client, credentials } from '@grpc/grpc-js'
import { DEFINITION, serveEcho } from './grpc-echo.js'
import { answer, IN_FLIGHT, inFlight, latency, MIB, rate } from './peer.js'

/** Raw @grpc/grpc-js: another process echoes each message, over TCP as `farpool remote`. */
if (process.argv[2] === 'server') {
  await serveEcho()
} else {
  const server = fork(fileURLToPath(import.meta.url), ['server'])
  const [address] = await once(server, 'message')
  const unlimited = { 'grpc.max_receive_message_length': -1, 'grpc.max_send_message_length': -1 }
  const client = new Client(address, credentials.createInsecure(), unlimited)

  const unary = (message: Buffer): Promise<Buffer> =>
    new Promise((resolve, reject) => {
      const { path, requestSerialize, responseDeserialize } = DEFINITION.unary
      const done = (error: unknown, value?: Buffer) => (value ? resolve(value) : reject(error))
      client.makeUnaryRequest(path, requestSerialize, responseDeserialize, message, done)
    })

  const waiting: ((value: Buffer) => void)[] = []
  const { path, requestSerialize, responseDeserialize } = DEFINITION.stream
  const stream = client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize)
  stream.on('data', (value: Buffer) => waiting.shift()?.(value))
  stream.on('error', () => {})
  const bidi = (message: Buffer): Promise<Buffer> =>
    new Promise((resolve) => {
      waiting.push(resolve)
      stream.write(message)
    })

  const small = Buffer.from([1, 2, 3, 4, 5, 6, 7, 8])
  // The best value: with 100,000 calls at once the burst takes minutes.
  const LANES = 1000
  const call = process.argv[2] === 'stream' ? bidi : unary
  await answer(
    {
      sequence: (n) => latency(n, () => call(small)),
      burst: (n) => rate(n, () => inFlight(n, LANES, () => call(small))),
      echo: (n) => {
        const bytes = Buffer.alloc(MIB, 7)
        return rate(n, () => inFlight(n, IN_FLIGHT, () => call(bytes)))
      },
    },
    () => server.kill(),
  )
}
