import { constants, createServer, type Http2Server, type ServerHttp2Stream } from 'node:http2'
import type { AddressInfo } from 'node:net'
import { FarpoolError, Pool } from 'farpool'
import { afterEach, describe, expect, it } from 'vitest'
import {
  ApplyResponse,
  CallRequest,
  CallResponse,
  GetServerInfoResponse,
} from '../../proto/gen/farpool/v1/pool_service.js'
import { Status } from '../../proto/gen/google/rpc/status.js'
import { Failure, failureToStatus, failureToTrailer } from '../../wire/failure.js'
import { errorOf } from '../support/calls.js'
import { frame } from '../support/raw-call.js'

/** The client against a server that ends streams and connections in bad places, after the negative HTTP/2 tests of gRPC. */

let server: Http2Server
let sessions = 0
afterEach(() => server.close())

const json = (value: unknown) => ({ kind: { $case: 'json' as const, value: JSON.stringify(value) } })
const HEADERS = { ':status': 200, 'content-type': 'application/grpc+proto' }

const LOST = new Failure('SESSION_LOST', 'no such session')

/** The trailers with which farpool's server ends a failed call. */
const trailer = (failure: Failure): Record<string, string> => {
  const { code, message, details } = failureToTrailer(failure)
  return {
    'grpc-status': String(code),
    'grpc-message': message,
    'grpc-status-details-bin': Buffer.from(details).toString('base64'),
  }
}

type Answer = (stream: ServerHttp2Stream, body: Buffer, path: string) => void

/** Handles one message of a stream of calls: accepts a new session, refuses to resume one, and answers calls. */
function converse(stream: ServerHttp2Stream, message: Buffer, answer: Answer): void {
  const { session, groups } = CallRequest.decode(message)
  if (session?.resumed) return stream.respond({ ...HEADERS, ...trailer(LOST) }, { endStream: true })
  if (session) end(stream, frame(CallResponse.encode({ outcomes: [], received: 0, maxMessageBytes: 0 }).finish()))
  if (groups.length > 0) answer(stream, outcomesOf(message), 'Call')
}

/** Starts a server that calls `answer` with the encoded correct answer of each call, for either transport. */
async function serve(answer: Answer, options = {}): Promise<string> {
  sessions = 0
  server = createServer(options)
  server.on('session', (session) => {
    sessions++
    session.on('error', () => {})
  })
  server.on('stream', (stream, headers) => {
    const path = String(headers[':path'])
    stream.on('error', () => {})
    let received = Buffer.alloc(0)
    stream.on('data', (part: Buffer) => {
      received = Buffer.concat([received, part])
      while (received.length >= 5 && received.length >= 5 + received.readUInt32BE(1)) {
        const length = 5 + received.readUInt32BE(1)
        const message = received.subarray(5, length)
        received = received.subarray(length)
        if (path.endsWith('/GetServerInfo')) end(stream, info)
        else if (path.endsWith('/GetPool') || path.endsWith('/OpenPool')) answer(stream, info, path)
        else if (path.endsWith('/Apply')) answer(stream, result, path)
        else if (path.endsWith('/IMap')) answer(stream, Buffer.alloc(0), path)
        else converse(stream, message, answer)
      }
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return `127.0.0.1:${(server.address() as AddressInfo).port}`
}

const info = frame(
  GetServerInfoResponse.encode({
    version: '',
    runtime: '',
    processes: 2,
    maxMessageBytes: 1e6,
    graceMs: 0,
    runTimeoutMs: 0,
    maxQueued: 0,
    maxQueuedPerClient: 0,
    pools: ['default'],
  }).finish(),
)
const result = frame(ApplyResponse.encode({ result: json('answer') }).finish())
const outcomesOf = (request: Buffer) => {
  const ids = CallRequest.decode(request).groups.flatMap(({ calls }) => calls.map(({ id }) => id))
  const outcomes = ids.map((id) => ({ id, payload: json('answer'), failures: [] }))
  return frame(CallResponse.encode({ outcomes, received: 0, maxMessageBytes: 0 }).finish())
}

/** The same outcomes, but failed. */
const refused = (outcomes: Buffer, failure: Failure): Buffer => {
  const ids = CallResponse.decode(outcomes.subarray(5)).outcomes.map(({ id }) => id)
  const failures = [{ chunk: 0, item: undefined, status: failureToStatus(failure) }]
  return frame(
    CallResponse.encode({
      outcomes: ids.map((id) => ({ id, payload: undefined, failures })),
      received: 0,
      maxMessageBytes: 0,
    }).finish(),
  )
}

/** Sends the answer, and ends the stream correctly: after the client has closed its side. */
const end = (stream: ServerHttp2Stream, body: Buffer) => {
  // The client may have reset it.
  if (stream.destroyed || stream.closed) return
  if (!stream.headersSent) {
    stream.respond(HEADERS, { waitForTrailers: true })
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }))
    stream.once('end', () => stream.end())
  }
  stream.write(body)
}

it('calls that a stream has accepted are not sent again if the stream ends with QUEUE_FULL', async () => {
  let calls = 0
  const full = trailer(new Failure('QUEUE_FULL', 'too much', { retryDelayMs: 1 }))
  const address = await serve((stream) => {
    calls++
    stream.removeAllListeners('wantTrailers').on('wantTrailers', () => stream.sendTrailers(full))
    stream.end()
  })
  await using pool = new Pool(address)
  expect(await errorOf(pool.apply('f'))).toMatchObject({ reason: 'QUEUE_FULL', started: undefined })
  expect(calls).toBe(1)
})

describe.each(['unary', 'stream'] as const)('a server with a full queue, over %s', (transport) => {
  it('is tried again only after the time that it asks for', async () => {
    const ASKED_MS = 200
    const times: number[] = []
    const full = new Failure('QUEUE_FULL', 'full', { retryDelayMs: ASKED_MS })
    const address = await serve((stream, body) => {
      times.push(performance.now())
      if (times.length > 3) return end(stream, body)
      if (transport === 'stream') return end(stream, refused(body, full))
      stream.respond({ ...HEADERS, ...trailer(full) }, { endStream: true })
    })
    await using pool = new Pool(address, { transport })
    expect(await pool.apply('f')).toBe('answer')
    const pauses = times.slice(1).map((time, at) => time - (times[at] ?? 0))
    expect(pauses).toHaveLength(3)
    for (const pause of pauses) expect(pause).toBeGreaterThanOrEqual(ASKED_MS - 1)
  })
})

describe.each(['unary', 'stream'] as const)('a client over %s', (transport) => {
  it('completes open calls after a GOAWAY, and uses a new connection for the next RPC', async () => {
    const address = await serve((stream, body) => {
      end(stream, body)
      stream.session?.goaway(0)
    })
    await using pool = new Pool(address, { transport })
    expect(await pool.apply('f')).toBe('answer')
    expect(await pool.apply('f')).toBe('answer')
    // An open stream stays on its connection.
    if (transport === 'unary') expect(sessions).toBeGreaterThan(1)
  })

  it.each<[string, (stream: ServerHttp2Stream, body: Buffer) => unknown]>([
    ['rst_after_header', (stream) => stream.headersSent || stream.respond(HEADERS)],
    [
      'rst_during_data',
      (stream, body) => {
        if (!stream.headersSent) stream.respond(HEADERS)
        stream.write(body.subarray(0, body.length / 2))
      },
    ],
  ])('fails one call after a reset, and not the next one: %s', async (_, begin) => {
    let calls = 0
    const address = await serve((stream, body) => {
      if (calls++ > 0) return end(stream, body)
      begin(stream, body)
      setImmediate(() => stream.close(8))
    })
    await using pool = new Pool(address, { transport })
    expect(await errorOf(pool.apply('f'))).toBeInstanceOf(FarpoolError)
    expect(await pool.apply('f')).toBe('answer')
    expect(calls).toBe(2)
  })

  it('does not hang after a reset behind the whole answer (rst_after_data)', async () => {
    let calls = 0
    const address = await serve((stream, body) => {
      if (calls++ > 0) return end(stream, body)
      if (!stream.headersSent) stream.respond(HEADERS)
      stream.write(body, () => stream.close(8))
    })
    await using pool = new Pool(address, { transport })
    // The second call may have been sent before the reset that follows the answer to the first.
    for (let i = 0; i < 2; i++) {
      const outcome = await Promise.resolve(pool.apply('f')).catch((error: unknown) => error)
      expect(outcome === 'answer' || outcome instanceof FarpoolError).toBe(true)
    }
    expect(await pool.apply('f')).toBe('answer')
  })

  it('ignores pings around and within an answer', async () => {
    const address = await serve((stream, body) => {
      for (const byte of body) {
        stream.session?.ping(() => {})
        end(stream, Buffer.of(byte))
      }
    })
    await using pool = new Pool(address, { transport })
    for (let i = 0; i < 3; i++) expect(await pool.apply('f')).toBe('answer')
  })

  it('completes 15 calls at once with one stream allowed (max_streams)', async () => {
    const address = await serve(end, { settings: { maxConcurrentStreams: 1 } })
    await using pool = new Pool(address, { transport })
    const answers = await Promise.all(Array.from({ length: 15 }, () => pool.apply('f')))
    expect(answers).toEqual(Array(15).fill('answer'))
  })
})

/** grpc-js reports a connection that breaks during a write in the same way. */
describe.each([constants.NGHTTP2_INTERNAL_ERROR, constants.NGHTTP2_ENHANCE_YOUR_CALM])(
  'a stream that is reset with code %i',
  (code) => {
    const reset = (stream: ServerHttp2Stream) => stream.close(code)

    it.each(['unary', 'stream'] as const)('fails its call with CONNECTION_LOST, over %s', async (transport) => {
      await using pool = new Pool(await serve(reset), { transport })
      expect(await errorOf(pool.apply('f'))).toMatchObject({ reason: 'CONNECTION_LOST', started: undefined })
    })

    it('before its first call is replaced, and the call succeeds', async () => {
      const address = await serve(end)
      const first = new Promise<void>((resolve) => {
        server.prependOnceListener('stream', (stream: ServerHttp2Stream) => {
          reset(stream)
          resolve()
        })
      })
      await using pool = new Pool(address)
      expect(await pool.apply('f')).toBe('answer')
      await first
    })

    it('while it opens a pool fails the calls of the pool as not started', async () => {
      await using pool = new Pool(await serve(reset), { processes: 1 })
      expect(await errorOf(pool.apply('f'))).toMatchObject({ reason: 'CONNECTION_FAILED', started: false })
    })

    it('fails info() with CONNECTION_FAILED', async () => {
      await using pool = new Pool(await serve(reset))
      expect(await errorOf(pool.info())).toMatchObject({ reason: 'CONNECTION_FAILED' })
    })
  },
)

/** An uncaught error would end this test process. */
describe('noise from a server', () => {
  it.each(['unary', 'stream'] as const)(
    'in the details of a status does not hide the status code, over %s',
    async (transport) => {
      let calls = 0
      const address = await serve((stream, body) => {
        if (calls++ > 0) return end(stream, body)
        const details = Status.encode({
          code: 7,
          message: 'why',
          details: [
            { typeUrl: 'type.googleapis.com/google.rpc.ErrorInfo', value: Buffer.from('0aff', 'hex') },
            { typeUrl: 'type.googleapis.com/farpool.v1.RemoteError', value: Buffer.from('noise') },
          ],
        }).finish()
        if (stream.headersSent) return stream.close(2)
        const text = Buffer.from(calls === 1 ? details : 'noise').toString('base64')
        stream.respond({ ...HEADERS, 'grpc-status': '7', 'grpc-status-details-bin': text }, { endStream: true })
      })
      await using pool = new Pool(address, { transport })
      expect(await errorOf(pool.apply('f'))).toBeInstanceOf(FarpoolError)
      expect(await pool.apply('f')).toBe('answer')
    },
  )

  it.each([
    ['noise', 'ff'],
    ['an outcome that is cut', '0a0e0801'],
    ['a failure whose status is noise', '0a0a08011a061a041a02ffff'],
  ])('instead of outcomes fails the calls of the stream, and the next call succeeds: %s', async (_, hex) => {
    let calls = 0
    const address = await serve((stream, body) => end(stream, calls++ > 0 ? body : frame(Buffer.from(hex, 'hex'))))
    await using pool = new Pool(address, { transport: 'stream' })
    const wrong = await errorOf(pool.apply('f'))
    expect(wrong).toBeInstanceOf(FarpoolError)
    expect(wrong).toMatchObject({ reason: 'INTERNAL' })
    expect(await pool.apply('f')).toBe('answer')
  })
})

describe('an impossible answer of a server', () => {
  it('does no harm: an acknowledgement of more than was sent', async () => {
    const received = frame(CallResponse.encode({ outcomes: [], received: 2 ** 40, maxMessageBytes: 0 }).finish())
    const address = await serve((stream, body) => {
      end(stream, received)
      end(stream, body)
    })
    await using pool = new Pool(address, { transport: 'stream' })
    for (let i = 0; i < 3; i++) expect(await pool.apply('f')).toBe('answer')
  })

  it('does no harm: a second answer to one request', async () => {
    const address = await serve((stream, body, path) => {
      end(stream, body)
      if (path.endsWith('/GetPool')) end(stream, body)
    })
    await using pool = new Pool(address)
    expect(await pool.info()).toHaveProperty('server')
  })

  it('fails an imap that ends with OK before all outcomes have come', async () => {
    const address = await serve((stream) => {
      stream.respond(HEADERS, { waitForTrailers: true })
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }))
      stream.end()
    })
    await using pool = new Pool(address, { transport: 'unary' })
    const all = async () => {
      for await (const _ of pool.imap('f', [1, 2, 3]));
    }
    expect(await errorOf(all())).toMatchObject({ reason: 'INTERNAL' })
  })
})
