import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { connect } from 'node:http2'
import { credentials, type ServiceError, status } from '@grpc/grpc-js'
import { Pool } from 'farpool'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { IMapResponse, type MapResponse, PoolServiceClient } from '../../proto/gen/farpool/v1/pool_service.js'
import { IMAP, mapMessage, mapRequest } from '../attack/requests.js'
import { Relay } from '../chaos/relay.js'
import { frame } from '../support/raw-call.js'
import { ServerProcess, temporaryFolder, until } from '../support/server.js'

/** How calls end whose client is slow, late, or comes twice. */

const MIB = 1024 * 1024
const isIdle = ({ queued, running }: { queued: number; running: number }) => queued + running === 0
const folder = temporaryFolder()
afterAll(() => folder.remove())

describe('an imap whose deadline passes while its client does not read', () => {
  let server: ServerProcess
  beforeAll(async () => {
    server = await ServerProcess.start(['--processes', '2'])
  })
  afterAll(() => server[Symbol.asyncDispose]())

  /** What the stream said until the server closed it, after `read` has resolved. */
  async function imap(read: () => Promise<void>) {
    const session = connect(`http://${server.address}`)
    const stream = session.request({
      ':method': 'POST',
      ':path': IMAP,
      'content-type': 'application/grpc',
      te: 'trailers',
      'grpc-timeout': '500m',
    })
    let status: unknown
    let bytes = Buffer.alloc(0)
    stream.on('trailers', (trailers) => {
      status = trailers['grpc-status']
    })
    stream.on('error', () => {})
    stream.pause()
    stream.end(frame(mapRequest('textOf', 64, MIB)))
    await read()
    stream.on('data', (part: Buffer) => {
      bytes = Buffer.concat([bytes, part])
    })
    stream.resume()
    await new Promise((resolve) => stream.once('close', resolve))
    session.destroy()
    let outcomes = 0
    for (let at = 0; at + 5 <= bytes.length; at += 5 + bytes.readUInt32BE(at + 1)) {
      const length = bytes.readUInt32BE(at + 1)
      if (at + 5 + length <= bytes.length)
        outcomes += IMapResponse.decode(bytes.subarray(at + 5, at + 5 + length)).outcomes.length
    }
    return { status, outcomes }
  }

  it('ends with DEADLINE_EXCEEDED behind what had been written, not as if all had been said', async () => {
    await using pool = new Pool(server.address)
    const { status: code, outcomes } = await imap(async () => {
      const deadline = Date.now() + 500
      await until(
        async () => Date.now() > deadline && isIdle(await pool.info()),
        'its time is over, and all is given up',
      )
    })
    expect(code).toBe(String(status.DEADLINE_EXCEEDED))
    expect(outcomes).toBeLessThan(64)
  })

  it('is reset where its end is not read either', async () => {
    await using pool = new Pool(server.address)
    const session = connect(`http://${server.address}`, { settings: { initialWindowSize: 0 } })
    const stream = session.request({
      ':method': 'POST',
      ':path': IMAP,
      'content-type': 'application/grpc',
      'grpc-timeout': '100m',
    })
    stream.on('error', () => {})
    const closed = new Promise((resolve) => stream.once('close', resolve))
    stream.end(frame(mapRequest('textOf', 64, MIB)))
    await closed
    expect(stream.rstCode).toBe(8)
    expect(await pool.apply('add', [1, 2])).toBe(3)
    session.destroy()
  })
})

describe('a server that is told to end', () => {
  it.each(['unary', 'stream'] as const)(
    'lets an answer be read to its end, however slowly it is read (%s)',
    async (transport) => {
      await using server = await ServerProcess.start(['--processes', '1', '--drain', '30000'])
      const { hostname, port } = new URL(`http://${server.address}`)
      await using relay = await Relay.open({ host: hostname, port: Number(port) })
      await using pool = new Pool(relay.address, { transport })
      await pool.apply('add', [1, 2])
      const answer = pool.apply('textOf', [48 * MIB])
      await using watcher = new Pool(server.address)
      await until(async () => (await watcher.info()).running === 1, 'it runs')
      relay.stall()
      await until(async () => (await watcher.info()).tasks.succeeded >= 2, 'it has run')
      server.signal('SIGTERM')
      await server.logged(({ msg }) => msg.startsWith('draining'))
      // Longer than what is open yet is given when all has been said.
      const waited = new Promise((resolve) => setTimeout(resolve, 1_500))
      expect(await Promise.race([waited, server.exited])).toBe(undefined)
      relay.resume()
      expect(((await answer) as string).length).toBe(48 * MIB)
      expect(await server.exited).toBe(0)
    },
  )
})

describe('a time that is longer than a timer can hold', () => {
  it('is any time', async () => {
    await using server = await ServerProcess.start(['--processes', '1'])
    await using pool = new Pool(server.address)
    expect(await pool.imap('busyFor', [50]).next(3_000_000_000)).toMatchObject({ done: false })
    expect(await pool.applyAsync('add', [1, 2]).get(Number.POSITIVE_INFINITY)).toBe(3)
  })
})

describe('a map that its client has named', () => {
  it('runs once, however often it is sent; the name is no other call’s', async () => {
    await using server = await ServerProcess.start(['--processes', '2'])
    const stub = new PoolServiceClient(server.address, credentials.createInsecure())
    const [file, go] = [folder.path('named'), folder.path('named go')]
    const named = {
      ...mapMessage('waitFor', 1, [file, go, 'once']),
      spread: true,
      requestId: 'a map that nobody guesses',
    }
    const send = (request = named) => {
      let cancel = () => {}
      const answer = new Promise<MapResponse | ServiceError>((resolve) => {
        const call = stub.map(request, (error, response) => resolve(error ?? response))
        cancel = () => call.cancel()
      })
      return { answer, cancel }
    }
    const lost = send()
    await until(() => existsSync(file), 'it runs')
    lost.cancel()
    expect(await lost.answer).toMatchObject({ code: status.CANCELLED })
    const again = [send(), send()]
    expect(await send({ ...named, function: 'add' }).answer).toMatchObject({
      code: status.INVALID_ARGUMENT,
      details: expect.stringContaining('request_id names another call'),
    })
    writeFileSync(go, '')
    const answers = [...(await Promise.all(again.map(({ answer }) => answer))), await send().answer]
    expect(answers.map((answer) => 'chunks' in answer && answer.chunks[0]?.kind?.value)).toEqual(
      Array(3).fill('["once"]'),
    )
    expect(readFileSync(file, 'utf8').split('\n')).toHaveLength(2)
    stub.close()
  })
})
