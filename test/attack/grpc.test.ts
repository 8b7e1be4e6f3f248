import { constants, type OutgoingHttpHeaders } from 'node:http2'
import { promisify } from 'node:util'
import { deflateSync, gzip, gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { CallResponse } from '../../proto/gen/farpool/v1/pool_service.js'
import { frame } from '../support/raw-call.js'
import { RawClient, type RawRequest } from '../support/raw-unary.js'
import { Siege } from '../support/siege.js'
import { applyRequest, CALL, callRequest, resultOf } from './requests.js'

/** Wrong gRPC that no library sends, and the interop tests of gRPC that apply to this server. */

const OK = '0'
const INVALID_ARGUMENT = '3'
const DEADLINE_EXCEEDED = '4'
const RESOURCE_EXHAUSTED = '8'
const UNIMPLEMENTED = '12'
const INTERNAL = '13'

const MIB = 1024 * 1024
const MAX_MESSAGE_BYTES = 8 * MIB

let siege: Siege
let client: RawClient
beforeAll(async () => {
  siege = await Siege.start(['--max-message-bytes', String(MAX_MESSAGE_BYTES)])
  client = new RawClient(siege.address)
})
afterAll(async () => {
  client[Symbol.dispose]()
  await siege.connectionsAreClosed()
  await siege[Symbol.asyncDispose]()
})

const add = frame(applyRequest('add', 1, 2))
const flagged = (bytes: Uint8Array) => {
  const framed = frame(bytes)
  framed[0] = 1
  return framed
}

describe('the interop test', () => {
  it('empty_unary', async () => {
    const { status, body } = await client.send({
      path: '/farpool.v1.PoolService/ListFunctions',
      body: frame(Buffer.alloc(0)),
    })
    expect([status, body.length > 5]).toEqual([OK, true])
  })

  it('large_unary', async () => {
    const text = 'x'.repeat(314_159)
    expect(resultOf(await client.send({ body: frame(applyRequest('identity', text)) }))).toBe(text)
  })

  it('status_code_and_message, special_status_message', async () => {
    const special = '\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n'
    for (const text of ['test status message', special]) {
      const { status, message } = await client.send({ body: frame(applyRequest('throwText', text)) })
      expect([status, message]).toEqual(['2', text])
    }
  })

  it('timeout_on_sleeping_server', async () => {
    const { status } = await client.send({ headers: { 'grpc-timeout': '50m' }, body: frame(applyRequest('never')) })
    expect(status).toBe(DEADLINE_EXCEEDED)
  })

  it('timeout of a request that never comes whole', async () => {
    const headers = { 'grpc-timeout': '50m' }
    const { status } = await client.send({ headers, body: frame(Buffer.alloc(3), 100), open: true })
    expect(status).toBe(DEADLINE_EXCEEDED)
  })

  it.each([
    ['unimplemented_method', '/farpool.v1.PoolService/Unimplemented'],
    ['unimplemented_service', '/farpool.v1.Unimplemented/Apply'],
    ['an unknown method __proto__', '/farpool.v1.PoolService/__proto__'],
    ['an unknown path __proto__', '__proto__'],
    ['an unknown path constructor', 'constructor'],
    ['a path of two slashes', '//'],
    ['an empty method name', '/farpool.v1.PoolService/'],
    ['a path of 15 KiB', `/${'a'.repeat(15_000)}`],
  ])('%s', async (_, path) => {
    if (!path.startsWith('/')) path = `/${path}`
    const { status, message } = await client.send({ path, body: add })
    expect(status).toBe(UNIMPLEMENTED)
    expect(message.length).toBeLessThan(400)
  })

  it.each([
    ['cancel_after_begin', false],
    ['cancel_after_first_response', true],
  ])('%s', async (_, answered) => {
    await siege.withstands(async () => {
      const stream = client.session.request({
        ':method': 'POST',
        ':path': CALL,
        'content-type': 'application/grpc',
        te: 'trailers',
      })
      stream.on('error', () => {})
      if (answered) {
        stream.write(frame(callRequest('pid', 1)))
        const body = await new Promise<Buffer>((resolve) => stream.once('data', resolve))
        expect(CallResponse.decode(body.subarray(5)).outcomes).toHaveLength(1)
      }
      const closed = new Promise((resolve) => stream.once('close', resolve))
      stream.close(constants.NGHTTP2_CANCEL)
      await closed
    })
  })
})

describe('a message', () => {
  it.each<[string, RawRequest, string]>([
    ['that announces 4 GiB', { body: frame(Buffer.alloc(3), 2 ** 32 - 1) }, RESOURCE_EXHAUSTED],
    ['that is cut', { body: frame(Buffer.alloc(3), 100) }, UNIMPLEMENTED],
    ['that is missing', {}, UNIMPLEMENTED],
    ['that comes twice', { body: Buffer.concat([add, add]) }, UNIMPLEMENTED],
    ['marked as compressed without an encoding', { body: flagged(applyRequest('add', 1, 2)) }, OK],
    ['in an unknown encoding', { headers: { 'grpc-encoding': 'br' }, body: flagged(Buffer.alloc(9)) }, UNIMPLEMENTED],
    [
      'in an encoding with a name of 10 KiB',
      { headers: { 'grpc-encoding': 'x'.repeat(10_000) }, body: flagged(Buffer.alloc(9)) },
      UNIMPLEMENTED,
    ],
    ['that is not gzip', { headers: { 'grpc-encoding': 'gzip' }, body: flagged(Buffer.alloc(9)) }, INVALID_ARGUMENT],
    [
      'of cut gzip',
      { headers: { 'grpc-encoding': 'gzip' }, body: flagged(gzipSync(applyRequest('add', 1, 2)).subarray(0, -12)) },
      INVALID_ARGUMENT,
    ],
  ])('%s', async (_, sent, status) => {
    const answer = await siege.withstands(() => client.send(sent))
    expect(answer.status).toBe(status)
    expect(answer.message.length).toBeLessThan(400)
  })

  it.each([
    ['gzip', gzipSync],
    ['deflate', deflateSync],
  ])('compressed with %s is read', async (encoding, pack) => {
    const answer = await client.send({
      headers: { 'grpc-encoding': encoding },
      body: flagged(pack(applyRequest('add', 1, 2))),
    })
    expect(resultOf(answer)).toBe(3)
  })
})

describe('a compression bomb', () => {
  const headers = { 'grpc-encoding': 'gzip' }

  it('far above the limit is refused before it is decompressed', async () => {
    // Compressed outside of the event loop, because this client must answer pings meanwhile.
    const bomb = flagged(await promisify(gzip)(Buffer.alloc(1024 * MIB)))
    const answer = await siege.withstands(() => client.send({ headers, body: bomb }), 128 * MIB)
    expect([answer.status, answer.reason]).toEqual([RESOURCE_EXHAUSTED, 'PAYLOAD_TOO_LARGE'])
  })

  it('below the limit is refused if 200 of them would exceed the memory budget', async () => {
    const bomb = flagged(gzipSync(Buffer.alloc(MAX_MESSAGE_BYTES - 1_000)))
    const whole = flagged(gzipSync(applyRequest('identity', 'x'.repeat(MAX_MESSAGE_BYTES / 2))))
    const reasons = await siege.withstands(async () => {
      using own = new RawClient(siege.address)
      const calls = Array.from({ length: 200 }, () => own.send({ headers, body: bomb, open: true }))
      const first = await Promise.any(calls.map(async (call) => ((await call).status ? call : Promise.reject())))
      // Calls of another client still have room in the budget.
      for (let i = 0; i < 10; i++) expect((await client.send({ headers, body: whole })).status).toBe(OK)
      return first.reason
      // The bombs would be 14 GiB. The calls of the other client are copied four times and leave garbage.
    }, 1024 * MIB)
    expect(reasons).toBe('QUEUE_FULL')
    // The memory of the bombs is free again.
    for (let i = 0; i < 3; i++) expect((await client.send({ headers, body: whole })).status).toBe(OK)
  })
})

describe('headers', () => {
  it.each<[string, OutgoingHttpHeaders, string | undefined]>([
    ['of 15 KiB are read', { x: 'y'.repeat(15_000) }, OK],
    ['of 20 KiB are refused', { x: 'y'.repeat(20_000) }, RESOURCE_EXHAUSTED],
    ['of 60 KiB are refused', { 'x-bin': 'A'.repeat(60_000) }, RESOURCE_EXHAUSTED],
    ['of 70 KiB are refused', { x: 'y'.repeat(70_000) }, undefined],
    [
      'a thousand of them are refused',
      Object.fromEntries(Array.from({ length: 1_000 }, (_, i) => [`x${i}`, 'y'])),
      undefined,
    ],
    ['of bytes that are not base64 are accepted', { 'x-bin': '!!!,,,=' }, OK],
    ['with a name that gRPC does not allow are ignored', { 'x!': 'y' }, OK],
    ['of characters that gRPC does not allow are ignored', { x: '\xff'.repeat(1_000) }, OK],
  ])('%s', async (_, headers, status) => {
    using own = new RawClient(siege.address)
    const answer = await siege.withstands(() => own.send({ headers, body: add }))
    expect(answer.status).toBe(status)
    if (status === undefined) expect(answer.reset).not.toBe(0)
  })

  it('that are ignored do not appear in the log', () => {
    expect(siege.server.log.filter(({ level, msg }) => level !== 30 && !msg.includes('root'))).toEqual([])
  })

  it.each(['text/html', 'application/json', '', 'a'.repeat(10_000)])(
    'content-type %.20s is answered with 415',
    async (type) => {
      expect((await client.send({ headers: { 'content-type': type }, body: add })).http).toBe(415)
    },
  )
})

describe('grpc-timeout', () => {
  it.each([
    ['of 11,000 years has no effect', '99999999H', OK],
    ['of 25 days has no effect', '2160000S', OK],
    ['of words is refused', 'soon', INTERNAL],
    ['of 15 KiB is refused', 'x'.repeat(15_000), INTERNAL],
    ['of characters that gRPC does not allow has no effect', '\xff'.repeat(5_000), OK],
  ])('%s', async (_, timeout, status) => {
    const answer = await client.send({ headers: { 'grpc-timeout': timeout }, body: add })
    expect(answer.status).toBe(status)
    expect(answer.message.length).toBeLessThan(400)
  })
})
