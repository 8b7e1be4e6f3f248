import { FarpoolError, Pool, UnknownFunctionError } from 'farpool'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ApplyRequest } from '../../proto/gen/farpool/v1/pool_service.js'
import { frame } from '../support/raw-call.js'
import { RawClient } from '../support/raw-unary.js'
import { Siege } from '../support/siege.js'
import { call as plainCall } from '../support/stub.js'
import { resultOf } from './requests.js'

/** Values and names from a client that a worker must not trust. */

let siege: Siege
let client: RawClient
beforeAll(async () => {
  siege = await Siege.start()
  client = new RawClient(siege.address)
})
afterAll(async () => {
  client[Symbol.dispose]()
  await siege[Symbol.asyncDispose]()
})

type Kind = ApplyRequest['args'][number]['kind']
const cbor = (hex: string, repeated = ''): Kind => ({
  $case: 'cbor',
  value: Buffer.concat([Buffer.from(repeated, 'hex'), Buffer.from(hex, 'hex')]),
})
const json = (text: string): Kind => ({ $case: 'json', value: text })
const call = (name: string, kind: Kind, more: Partial<ApplyRequest> = {}) => {
  const request = { ...plainCall, function: name, args: [{ kind }], ...more }
  return client.send({ body: frame(ApplyRequest.encode(request).finish()) })
}

describe('a value', () => {
  const DEEP = 1_000_000

  it.each<[string, Kind]>([
    ['JSON, arrays', json('['.repeat(DEEP) + ']'.repeat(DEEP))],
    ['JSON, objects', json(`${'{"a":'.repeat(DEEP)}1${'}'.repeat(DEEP)}`)],
    ['JSON, never closed', json('['.repeat(DEEP))],
    ['CBOR, arrays', cbor('00', '81'.repeat(DEEP))],
    ['CBOR, maps', cbor('00', 'a16161'.repeat(DEEP))],
    ['CBOR, tags', cbor('00', 'c1'.repeat(DEEP))],
    ['CBOR, arrays without a length', cbor('', '9f'.repeat(DEEP))],
  ])('with a million levels is refused with a reason: %s', async (_, kind) => {
    const { status, reason } = await siege.withstands(() => call('identity', kind))
    expect(status).not.toBe('0')
    expect(['PAYLOAD_DECODE_FAILED', 'RESULT_ENCODE_FAILED']).toContain(reason)
  })

  it.each([
    ['bytes', '5b7fffffffffffffff00'],
    ['bytes, 4 GiB', '5affffffff00'],
    ['text', '7b7fffffffffffffff61'],
    ['an array', '9bffffffffffffffff00'],
    ['an array, 4 GiB', '9affffffff00'],
    ['a map', 'bbffffffffffffffff0000'],
    ['a typed array', 'd8555affffffff00'],
    ['a large number', 'c25affffffff00'],
    ['parts of bytes', '5f5affffffff00ff'],
  ])('that announces more bytes than it has is refused at once: %s', async (_, hex) => {
    const { reason } = await siege.withstands(() => call('identity', cbor(hex)), 64 * 1024 * 1024)
    expect(reason).toBe('PAYLOAD_DECODE_FAILED')
  })

  const POLLUTED = [
    ['__proto__, JSON', json('{"__proto__":{"polluted":true},"x":1}')],
    ['constructor, JSON', json('{"constructor":{"prototype":{"polluted":true}},"x":1}')],
    ['__proto__, CBOR', cbor('a2695f5f70726f746f5f5fa168706f6c6c75746564f5617801')],
    ['constructor, CBOR', cbor('a26b636f6e7374727563746f72a16970726f746f74797065a168706f6c6c75746564f5617801')],
  ] as const

  it.each(POLLUTED)('does not change the prototype of its own or any other object: %s', async (_, kind) => {
    const clean = { prototypeIsPlain: true, polluted: false, others: false, x: 1 }
    const asArgument = await call('lookAt', kind, { replyKind: 1 })
    if (asArgument.status === '0') expect(resultOf(asArgument)).toMatchObject(clean)
    else expect(asArgument.reason).toBe('PAYLOAD_DECODE_FAILED')
    const asKeywords = await call('lookAt', kind, { args: [], kwargs: { kind }, replyKind: 1 })
    if (asKeywords.status === '0') expect(resultOf(asKeywords)).toMatchObject(clean)
    else expect(['PAYLOAD_DECODE_FAILED', 'BAD_REQUEST']).toContain(asKeywords.reason)
    expect(await siege.pool.apply('lookAt', [{ x: 1 }])).toEqual(clean)
  })
})

describe('a name', () => {
  const NAMES = [
    '__proto__',
    'toString',
    'constructor',
    'hasOwnProperty',
    'default',
    'then',
    '',
    '\0',
    'add\n',
    'x'.repeat(2 ** 20),
  ]

  it.each(['unary', 'stream'] as const)('that is not a function is not found, over %s', async (transport) => {
    await using pool = new Pool(siege.address, { transport })
    for (const name of NAMES) {
      const error = await Promise.resolve(pool.apply(name, [1])).catch((caught: unknown) => caught)
      if (name === '') expect(error).toBeInstanceOf(FarpoolError)
      else expect(error).toBeInstanceOf(UnknownFunctionError)
      expect((error as Error).message.length).toBeLessThan(10_000)
      expect(await pool.apply('add', [1, 2])).toBe(3)
    }
  })

  it.each(NAMES)('%j.20 is not a function and not a pool for a stub, and its status is short', async (name) => {
    for (const more of [{ function: name }, { pool: `no ${name}` }]) {
      const answer = await call('add', json('1'), more)
      expect([answer.status, answer.trailerBytes < 6 * 1024]).toEqual(['5', true])
    }
    expect((await call('add', json('1'))).status).toBe('0')
  })
})

describe('the message of an error', () => {
  const MESSAGES: [string, string][] = [
    ['a lone surrogate', '\ud800'],
    ['halves of surrogates the wrong way round', '\udc00\ud800'.repeat(1_000)],
    ['control characters', Array.from({ length: 32 }, (_, i) => String.fromCharCode(i)).join('')],
    ['1 MiB', 'x'.repeat(2 ** 20)],
    ['1 MiB of what takes three bytes each, nine as a trailer', '\u2028'.repeat(2 ** 20 / 3)],
    ['per cent', '%'.repeat(3_000)],
    ...[65_400, 65_535, 65_536, 66_000].map((length): [string, string] => [`${length} letters`, 'x'.repeat(length)]),
  ]

  it.each(MESSAGES)('of %s arrives, whole or truncated, and its connection goes on', async (_, text) => {
    for (const transport of ['unary', 'stream'] as const) {
      await using pool = new Pool(siege.address, { transport })
      const error = await Promise.resolve(pool.apply('throwText', [text])).catch((caught: unknown) => caught)
      expect(error).toMatchObject({ name: 'RemoteError', reason: 'FUNCTION_ERROR' })
      const { message } = error as Error
      expect(message).toBe(Buffer.from(message).toString())
      expect(message.length).toBeLessThan(10_000)
      const [failed] = await pool.map('throwText', [text], { settle: true })
      expect(failed).toMatchObject({ status: 'rejected', reason: { reason: 'FUNCTION_ERROR' } })
      expect(await pool.apply('add', [1, 2])).toBe(3)
    }
    const answer = await call('throwText', json(JSON.stringify(text)))
    expect([answer.status, answer.trailerBytes < 6 * 1024]).toEqual(['2', true])
    expect((await call('add', json('1'))).status).toBe('0')
  })
})
