import { setTimeout as sleep } from 'node:timers/promises'
import { credentials } from '@grpc/grpc-js'
import { Pool } from 'farpool'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { CallRequest, PoolServiceClient } from '../../proto/gen/farpool/v1/pool_service.js'
import { RESUME_MS } from '../../wire/protocol.js'
import { message } from '../support/raw-call.js'
import { RawClient } from '../support/raw-unary.js'
import { ServerProcess, until } from '../support/server.js'

/** More calls at once than a stream begins in one turn of the server's event loop. */
const MESSAGES = 20
const CALLS = 200

let server: ServerProcess
beforeAll(async () => {
  server = await ServerProcess.start(['--processes', '1'])
})
afterAll(() => server[Symbol.asyncDispose]())

const request = (name: string, from: number): CallRequest =>
  CallRequest.decode(message(name, Object.fromEntries(Array.from({ length: CALLS }, (_, at) => [from + at, ['x']]))))

describe('what waits for its turn', () => {
  it.each(['identity', 'noSuchFunction'])('has its outcome though its stream has ended behind it: %s', async (name) => {
    const stub = new PoolServiceClient(server.address, credentials.createInsecure())
    for (let round = 0; round < 5; round++) {
      const stream = stub.call()
      let outcomes = 0
      stream.on('data', (response) => {
        outcomes += response.outcomes.length
      })
      const ended = new Promise((resolve, reject) => stream.on('status', resolve).on('error', reject))
      for (let at = 0; at < MESSAGES; at++) stream.write(request(name, 1 + at * CALLS))
      stream.end()
      await ended
      expect(outcomes).toBe(MESSAGES * CALLS)
    }
    stub.close()
  })

  it('is given up with its pool, at once', async () => {
    const watching = new Pool(server.address)
    const pool = new Pool(server.address)
    await pool.apply('identity', [1])
    const calls = Array.from({ length: MESSAGES * 256 }, () => pool.apply('busyFor', [5]).catch(() => {}))
    await until(async () => (await watching.info()).queued > 0, 'the server has some of them')
    await pool.terminate()
    await Promise.all(calls)
    const from = performance.now()
    await until(async () => {
      const { queued, running } = await watching.info()
      return queued + running === 0
    }, 'nothing is left')
    // Not as late as a session that its client has left.
    expect(performance.now() - from).toBeLessThan(RESUME_MS)
    await watching.terminate()
  })
})

describe('a flood of calls', () => {
  it('does not keep a server that is told to end from ending', async () => {
    await using flooded = await ServerProcess.start(['--processes', '1', '--drain', '20000'])
    const clients = Array.from({ length: 30 }, () => new RawClient(flooded.address))
    let answers = 0
    const again = async (client: RawClient) => {
      while (!client.session.destroyed && !client.session.closed) {
        await client.send({ body: Buffer.alloc(5) })
        answers++
      }
    }
    for (const client of clients) for (let at = 0; at < 200; at++) again(client).catch(() => {})
    await until(() => answers > 1_000, 'they are being answered')
    flooded.signal('SIGTERM')
    expect(await Promise.race([flooded.exited, sleep(15_000, 'it goes on', { ref: false })])).toBe(0)
    for (const client of clients) client[Symbol.dispose]()
  })
})

describe('an imap', () => {
  it('that ended before its pool was known sends nothing', async () => {
    await using watching = new Pool(server.address)
    const { submitted } = (await watching.info()).tasks
    // It has yet to ask its server about its pool.
    await using pool = new Pool(server.address)
    const iterator = pool.imap('identity', Array(20).keys())
    // The input has been pulled, and waits for that.
    for (let at = 0; at < 4; at++) await undefined
    await iterator.return()
    // Behind whatever it may have sent.
    await pool.apply('identity', [1])
    expect((await watching.info()).tasks.submitted).toBe(submitted + 1)
  })
})
