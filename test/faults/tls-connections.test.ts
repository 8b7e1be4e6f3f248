import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect as connectTcp, type Socket } from 'node:net'
import { connect } from 'node:tls'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { TestCa } from '../support/certificates.js'
import { runClient } from '../support/client.js'
import { ServerProcess, temporaryFolder } from '../support/server.js'

/** Connections over TLS that are silent, or too many, end as those without TLS do. */

const folder = temporaryFolder()
afterAll(() => folder.remove())
const ca = new TestCa(folder.path('.'), 'ca')
const pair = ca.issue('server')
const args = ['--processes', '1', '--tls-cert', pair.cert, '--tls-key', pair.key]

const tcp = (address: string): Socket => connectTcp(Number(address.split(':').at(-1)), '127.0.0.1')

/** Resolves when the server has closed the connection. */
const closed = (socket: Socket) =>
  new Promise<void>((resolve) => {
    socket.on('error', () => {})
    socket.resume().once('close', () => resolve())
  })

describe.concurrent('a connection over TLS', () => {
  let server: ServerProcess
  beforeAll(async () => {
    server = await ServerProcess.start([...args, '--ping-timeout', '5000'])
  })
  afterAll(() => server[Symbol.asyncDispose]())

  it('that sends nothing is closed', async () => {
    await closed(tcp(server.address))
  })

  it('that never completes its handshake is closed, and the log says so', async () => {
    const socket = tcp(server.address)
    // The head of a ClientHello of 512 bytes, which do not come.
    socket.write(Buffer.from([0x16, 3, 1, 2, 0, 1, 0]))
    await closed(socket)
    await server.logged(({ msg }) => msg === 'a client was refused by TLS: it took too long')
  })

  it('that never speaks HTTP/2 is closed', async () => {
    const socket = connect({
      socket: tcp(server.address),
      ca: readFileSync(ca.cert),
      host: 'localhost',
      ALPNProtocols: ['h2'],
    })
    await once(socket, 'secureConnect')
    await closed(socket)
  })

  it('of a client that is stopped is closed, and the log says so', async () => {
    const client = runClient(`
      const pool = new Pool(${JSON.stringify(server.address)}, { tls: { ca: ${JSON.stringify(ca.cert)} } })
      pool.applyAsync('never')
      await pool.info()
      console.log('begun')`)
    await once(client.stdout as NonNullable<typeof client.stdout>, 'data')
    client.kill('SIGSTOP')
    const line = await server.logged(({ msg }) => msg.startsWith('the client did not answer for '))
    expect(line).toMatchObject({ client: expect.stringMatching(/^127\.0\.0\.1:\d+$/) })
    client.kill('SIGKILL')
  })
})
