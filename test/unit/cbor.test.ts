import { describe, expect, it } from 'vitest'
import { decodeCbor } from '../../wire/cbor-decode.js'
import { encodeCbor } from '../../wire/cbor-encode.js'
import { EncodeError } from '../../wire/codec-errors.js'
import { decodePayload, encodePayload } from '../../wire/payload.js'

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')
const decode = (text: string) => decodeCbor(Buffer.from(text, 'hex'))

describe('decodeCbor', () => {
  // From RFC 8949, appendix A.
  it.each([
    ['00', 0],
    ['17', 23],
    ['1818', 24],
    ['1903e8', 1000],
    ['1a000f4240', 1_000_000],
    ['1b000000e8d4a51000', 1_000_000_000_000],
    ['1bffffffffffffffff', 18446744073709551615n],
    ['c249010000000000000000', 18446744073709551616n],
    ['3bffffffffffffffff', -18446744073709551616n],
    ['c349010000000000000000', -18446744073709551617n],
    ['20', -1],
    ['3903e7', -1000],
    ['f90000', 0],
    ['f98000', -0],
    ['f93c00', 1],
    ['f93e00', 1.5],
    ['f97bff', 65504],
    ['f90001', 2 ** -24],
    ['f90400', 0.00006103515625],
    ['f9c400', -4],
    ['fa47c35000', 100000],
    ['fa7f7fffff', 3.4028234663852886e38],
    ['fb3ff199999999999a', 1.1],
    ['f97c00', Number.POSITIVE_INFINITY],
    ['f97e00', Number.NaN],
    ['f9fc00', Number.NEGATIVE_INFINITY],
    ['f4', false],
    ['f5', true],
    ['f6', null],
    ['f7', undefined],
    ['c074323031332d30332d32315432303a30343a30305a', new Date('2013-03-21T20:04:00Z')],
    ['c11a514b67b0', new Date(1363896240000)],
    ['c1fb41d452d9ec200000', new Date(1363896240500)],
    ['40', new Uint8Array()],
    ['4401020304', new Uint8Array([1, 2, 3, 4])],
    ['60', ''],
    ['6449455446', 'IETF'],
    ['62c3bc', 'ü'],
    ['64f0908591', '𐅑'],
    ['80', []],
    ['8301820203820405', [1, [2, 3], [4, 5]]],
    ['a0', {}],
    [
      'a201020304',
      new Map([
        [1, 2],
        [3, 4],
      ]),
    ],
    ['a26161016162820203', { a: 1, b: [2, 3] }],
    ['5f42010243030405ff', new Uint8Array([1, 2, 3, 4, 5])],
    ['7f657374726561646d696e67ff', 'streaming'],
    ['9fff', []],
    ['9f018202039f0405ffff', [1, [2, 3], [4, 5]]],
    ['bf61610161629f0203ffff', { a: 1, b: [2, 3] }],
    ['bf6346756ef563416d7421ff', { Fun: true, Amt: -2 }],
    ['d9d9f700', 0],
    ['d84d42ffff', new Int16Array([-1])],
    ['d8494401020304', new Int16Array([258, 772])],
  ])('reads %s', (bytes, value) => {
    const read = decode(bytes)
    expect(read).toStrictEqual(value)
    expect(Object.is(read, value) || typeof value === 'object').toBe(true)
  })

  it.each([
    ['', 'the value ends early'],
    ['18', 'the value ends early'],
    ['1c', 'additional information 28 has no meaning here'],
    ['0000', '1 bytes follow the value'],
    ['62c328', 'not valid UTF-8'],
    ['61ff', 'not valid UTF-8'],
    ['a161ff01', 'not valid UTF-8'],
    ['9b7fffffffffffffff', 'out of range'],
    ['9a7fffffff00', 'are announced and 1 are left'],
    ['5a7fffffff00', 'are announced and 1 are left'],
    ['ba7fffffff00', 'are announced and 1 are left'],
    ['ff', 'a break stands outside'],
    ['9f01', 'a break is missing'],
    ['5f01ff', 'a piece of a string is not a string of the same kind'],
    ['5f5f4101ffff', 'a piece of a string is not a string of the same kind'],
    ['f8ff', 'simple value 24 has no meaning here'],
    ['e0', 'simple value 0 has no meaning here'],
    ['c000', 'a date is not one of RFC 3339'],
    ['c160', 'a date is not a number'],
    ['c201', 'a bignum is not a byte string'],
    ['d9010201', 'a set is not an array'],
    ['d9010301', 'tag 259 does not stand before a map'],
    ['d81b01', 'tag 27 has no meaning here'],
    ['d84d43000000', 'not a byte string of a multiple of 2'],
  ])('refuses %s: %s', (bytes, why) => {
    expect(() => decode(bytes)).toThrow(why)
  })

  it('refuses what is nested too deep, and numbers without end', () => {
    expect(() => decodeCbor(Buffer.alloc(1_000_000, 0x81))).toThrow('nested deeper than 500')
    expect(() => decodeCbor(Buffer.alloc(1_000_000, 0xc1))).toThrow('nested deeper than 500')
    expect(() => decodeCbor(Buffer.concat([Buffer.from('c25a00100000', 'hex'), Buffer.alloc(1 << 20, 1)]))).toThrow(
      'a bignum takes',
    )
  })

  it('tells keys apart whose bytes look alike', () => {
    const keys = ['Ã©', 'é', 'a', 'aa', '\u0000', '\u00ff', 'key', 'kez', '🙂']
    const object = Object.fromEntries(keys.map((key, i) => [key, i]))
    for (let i = 0; i < 3; i++) expect(decodeCbor(encodeCbor([object, object]))).toStrictEqual([object, object])
  })

  it('hands out bytes as a view on the message', () => {
    const message = Buffer.from('4401020304', 'hex')
    expect((decodeCbor(message) as Uint8Array).buffer).toBe(message.buffer)
  })
})

describe('encodeCbor', () => {
  it.each([
    [24, '1818'],
    [-1000, '3903e7'],
    [2 ** 32, '1b0000000100000000'],
    [Number.MIN_SAFE_INTEGER, '3b001ffffffffffffe'],
    [-0, 'fb8000000000000000'],
    [5n, 'c24105'],
    [new Map([[1, 2]]), 'd90103a10102'],
    ['x'.repeat(24), `7818${'78'.repeat(24)}`],
  ])('writes %s as %s', (value, bytes) => {
    expect(hex(encodeCbor(value))).toBe(bytes)
  })

  it.each([
    [{ rows: [1, { f: () => 1 }] }, 'value.rows[1].f is a function, which cannot be sent'],
    [new Map([['a b', Symbol('s')]]), 'value["a b"] is a symbol'],
    [[new Set([1, Promise.resolve()])], 'value[0][1] is a Promise'],
    [Symbol('s'), 'value is a symbol'],
  ])('names the place of what it refuses: %o', (value, message) => {
    expect(() => encodeCbor(value)).toThrow(message)
  })

  it('refuses cycles by their place, and takes the same object twice', () => {
    const cycle: { list: unknown[] } = { list: [] }
    cycle.list.push({ back: cycle })
    expect(() => encodeCbor(cycle)).toThrow('value.list[0].back is a cycle')
    const shared = { a: 1 }
    expect(decodeCbor(encodeCbor([shared, shared]))).toStrictEqual([{ a: 1 }, { a: 1 }])
  })

  it('refuses what is nested too deep', () => {
    let deep: unknown = 1
    for (let i = 0; i < 501; i++) deep = [deep]
    expect(() => encodeCbor(deep)).toThrow('nested deeper than 500')
    expect(decodeCbor(encodeCbor((deep as unknown[])[0]))).toStrictEqual((deep as unknown[])[0])
  })

  it('says what a getter threw, and goes on with the next value', () => {
    const hostile = {
      a: {
        get b() {
          throw new RangeError('no')
        },
      },
    }
    const error = (() => {
      try {
        encodeCbor(hostile)
      } catch (caught) {
        return caught as Error
      }
    })()
    expect(error).toBeInstanceOf(EncodeError)
    expect(error).toMatchObject({
      message: expect.stringContaining('cannot be read: no'),
      cause: expect.any(RangeError),
    })
    expect(hex(encodeCbor(1))).toBe('01')
  })

  it('can be called by a getter of the value that it encodes', () => {
    const value = {
      get inner() {
        return encodeCbor({ a: 'x'.repeat(20_000) })
      },
      after: 'b',
    }
    const { inner, after } = decodeCbor(encodeCbor(value)) as { inner: Uint8Array; after: string }
    expect([decodeCbor(inner), after]).toStrictEqual([{ a: 'x'.repeat(20_000) }, 'b'])
  })

  it('encodes values larger than its buffer', () => {
    for (const size of [10_000, 1_000_000, 5_000_000]) {
      const value = ['é'.repeat(size), new Uint8Array(size).fill(1)]
      expect((decodeCbor(encodeCbor(value)) as unknown[])[0] === value[0]).toBe(true)
    }
  })
})

describe('payloads', () => {
  it.each([0, 100, 127, 128, 16_383, 16_384, 3_000_000])('of %i bytes of text arrive', (length) => {
    for (const kind of ['cbor', 'json'] as const) {
      expect(decodePayload(encodePayload('x'.repeat(length), kind))).toStrictEqual({ kind, value: 'x'.repeat(length) })
    }
  })

  it('carry raw bytes, and nothing else, as raw', () => {
    for (const bytes of [new Uint8Array([1, 2]), Buffer.from([1, 2]), new Uint8Array([1, 2]).buffer]) {
      expect(decodePayload(encodePayload(bytes, 'raw'))).toStrictEqual({ kind: 'raw', value: new Uint8Array([1, 2]) })
    }
    expect(() => encodePayload('text', 'raw')).toThrow('a raw payload carries bytes')
  })

  it('that are empty, or no payload, are refused', () => {
    expect(() => decodePayload(new Uint8Array())).toThrow('none of json, cbor, raw is set')
    expect(() => decodePayload(Buffer.from('0aff', 'hex'))).toThrow('not a farpool.v1.Payload')
    expect(() => decodePayload(Buffer.from('0a037b6f70', 'hex'))).toThrow('malformed JSON')
  })

  it('of deeply nested JSON are refused', () => {
    expect(() => decodePayload(Buffer.from(`\x0a\xd0\x0f${'['.repeat(2000)}`, 'latin1'))).toThrow(
      'nested deeper than 500',
    )
    expect(decodePayload(encodePayload(`${'['.repeat(2000)}"\\`, 'json')).value).toBe(`${'['.repeat(2000)}"\\`)
  })
})
