import { describe, expect, it } from 'vitest'
import { decodeCbor } from '../../wire/values/cbor-decoder.js'
import { encodeCbor } from '../../wire/values/cbor-encoder.js'
import { DecodeError, EncodeError } from '../../wire/values/value-errors.js'

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
    ['1c', 'additional information 28 is not supported'],
    ['0000', '1 bytes follow the value'],
    ['62c328', 'not valid UTF-8'],
    ['61ff', 'not valid UTF-8'],
    ['a161ff01', 'not valid UTF-8'],
    ['7f616161ffff', 'at byte 4: a text is not valid UTF-8'],
    // 'ü' in two chunks. Each chunk must be valid UTF-8 itself.
    ['7f61c361bcff', 'not valid UTF-8'],
    ['83830083000000', 'announce more items than it has bytes'],
    ['9b7fffffffffffffff', 'out of range'],
    ['9a7fffffff00', 'are announced, 1 are left'],
    ['5a7fffffff00', 'are announced, 1 are left'],
    ['ba7fffffff00', 'are announced, 1 are left'],
    ['ff', 'a break is outside'],
    ['9f01', 'a break is missing'],
    ['5f01ff', 'a chunk of a string is not a string of the same kind'],
    ['5f5f4101ffff', 'a chunk of a string is not a string of the same kind'],
    ['f8ff', 'simple value 24 is not supported'],
    ['e0', 'simple value 0 is not supported'],
    ['c000', 'tag 0 (a date) is not followed by a text'],
    // "1", "March 7" and a date without a zone: Date would read them, depending on the machine.
    ['c06131', 'a date is not in the format of RFC 3339'],
    ['c0674d617263682037', 'a date is not in the format of RFC 3339'],
    ['c073323031332d30332d32315432303a30343a3030', 'a date is not in the format of RFC 3339'],
    ['c160', 'tag 1 (a date) is not followed by a number'],
    ['c1fb7e37e43c8800759c', 'a date is out of range'],
    ['c1f97c00', 'a date is out of range'],
    ['c201', 'a bignum is not a byte string'],
    ['d9010201', 'tag 258 (a set) is not followed by an array'],
    ['d9010301', 'tag 259 (a Map) is not followed by a map'],
    ['d81b01', 'tag 27 is not supported'],
    ['d84d43000000', 'not a byte string whose length is a multiple of 2'],
  ])('refuses %s: %s', (bytes, why) => {
    expect(() => decode(bytes)).toThrow(why)
  })

  it('refuses values that are nested too deep and bignums that are too long', () => {
    expect(() => decodeCbor(Buffer.alloc(1_000_000, 0x81))).toThrow('nested deeper than 500')
    expect(() => decodeCbor(Buffer.from('d9d9f7'.repeat(100_000), 'hex'))).toThrow('nested deeper than 500')
    expect(() => decodeCbor(Buffer.alloc(1_000_000, 0xc1))).toThrow(DecodeError)
    expect(() => decodeCbor(Buffer.concat([Buffer.from('c25a00100000', 'hex'), Buffer.alloc(1 << 20, 1)]))).toThrow(
      'a bignum has 1048576 bytes',
    )
  })

  it('takes linear time for deep maps whose keys are texts and numbers', () => {
    // {"a": {"a": … , 1: 0}, 1: 0}: each level begins as an object and becomes a Map at its second key.
    let nested = '00'
    for (let i = 0; i < 200; i++) nested = `a26161${nested}0100`
    let value = decode(nested)
    for (let i = 0; i < 200; i++) {
      expect(value).toBeInstanceOf(Map)
      expect([...(value as Map<unknown, unknown>).keys()]).toStrictEqual(['a', 1])
      value = (value as Map<unknown, unknown>).get('a')
    }
    expect(value).toBe(0)
  })

  it('keeps an own key __proto__ when an object becomes a Map', () => {
    // {"__proto__": 1, 2: 3}
    expect(decode('a2695f5f70726f746f5f5f010203')).toStrictEqual(
      new Map<unknown, unknown>([
        ['__proto__', 1],
        [2, 3],
      ]),
    )
    // An object of indefinite length becomes a Map too.
    expect(decode('bf6161010203ff')).toStrictEqual(
      new Map<unknown, unknown>([
        ['a', 1],
        [2, 3],
      ]),
    )
  })

  it('refuses nested arrays that together announce more items than the message has bytes', () => {
    const length = 1_000_000
    const message = Buffer.alloc(length)
    // 400 nested arrays, each of which announces half as many items as the message has bytes.
    for (let i = 0; i < 400; i++) message.set(Buffer.from('9a0007a120', 'hex'), i * 5)
    expect(() => decodeCbor(message)).toThrow('announce more items than it has bytes')
  })

  it('joins many empty chunks of a byte string', () => {
    const message = Buffer.concat([Buffer.from('5f', 'hex'), Buffer.alloc(100_000, 0x40), Buffer.from('4107ff', 'hex')])
    expect(decodeCbor(message)).toStrictEqual(new Uint8Array([7]))
  })

  it('reads arrays of mixed numbers, of definite and indefinite length', () => {
    const numbers = [0, 23, 24, 255, 256, 65_535, 65_536, 2 ** 32 - 1, 2 ** 32, -1, -500, 1.5, -0, Number.NaN]
    const mixed = numbers.flatMap((number, i) => [number, i % 3 === 0 ? 'text' : null, number])
    expect(decodeCbor(encodeCbor(mixed))).toStrictEqual(mixed)
    const body = encodeCbor(mixed).subarray(2)
    expect(decodeCbor(Buffer.concat([Buffer.from([0x9f]), body, Buffer.from([0xff])]))).toStrictEqual(mixed)
    expect(() => decodeCbor(Buffer.concat([Buffer.from([0x9f]), body]))).toThrow('a break is missing')
  })

  it('reads runs of short texts of any length and script, with other items between and behind them', () => {
    const ascii = Array.from({ length: 30 }, (_, length) => 'abcdefghijklmnopqrstuvwxyz0123'.slice(0, length))
    const scripts = ['größe', '漢字', '🙂', '\ufffd', '\ufeffmark', 'é'.repeat(200), 'x'.repeat(300)]
    const many = Array.from({ length: 3_000 }, (_, i) => `item ${i}`)
    for (const texts of [ascii, scripts, [...ascii, ...scripts, ...ascii], many, many.with(1_500, 'größe')]) {
      for (const items of [texts, [...texts, 7, null, ...texts], texts.flatMap((text) => [text, 1, [text]])]) {
        expect(decodeCbor(encodeCbor(items))).toStrictEqual(items)
        const open = [Buffer.from([0x9f]), ...items.map((item) => encodeCbor(item)), Buffer.from([0xff])]
        expect(decodeCbor(Buffer.concat(open))).toStrictEqual(items)
      }
    }
  })

  it('refuses a run of short texts that ends early or is not UTF-8, with the offset', () => {
    const message = encodeCbor(Array.from({ length: 20 }, (_, i) => `item ${10 + i}`))
    for (let end = 0; end < message.length; end++) {
      expect(() => decodeCbor(message.subarray(0, end))).toThrow(DecodeError)
    }
    for (let at = 2; at < message.length; at += 8) {
      const wrong = Uint8Array.from(message)
      wrong[at] = 0xff
      expect(() => decodeCbor(wrong)).toThrow(`malformed CBOR at byte ${at}: a text is not valid UTF-8`)
    }
  })

  it('reads typed arrays at any offset and in either byte order', () => {
    for (let shift = 0; shift < 8; shift++) {
      const padded = Buffer.concat([Buffer.alloc(shift), encodeCbor(new Float64Array([1.5, -0]))])
      const moved = new Uint8Array(padded.length)
      moved.set(padded)
      expect(decodeCbor(moved.subarray(shift))).toStrictEqual(new Float64Array([1.5, -0]))
    }
    expect(decode('d841440102fffe')).toStrictEqual(new Uint16Array([258, 65_534]))
    expect(decode('d852483ff8000000000000')).toStrictEqual(new Float64Array([1.5]))
    expect(decode('d84b48ffffffffffffffff')).toStrictEqual(new BigInt64Array([-1n]))
  })

  it('reads dates of RFC 3339 with any zone and fraction', () => {
    const text = (date: string) => decodeCbor(Buffer.concat([Buffer.from('c0', 'hex'), encodeCbor(date)]))
    expect(text('2013-03-21T22:04:00.123456+02:00')).toStrictEqual(new Date('2013-03-21T20:04:00.123Z'))
    expect(text('2013-03-21t20:04:00z')).toStrictEqual(new Date('2013-03-21T20:04:00Z'))
  })

  it('distinguishes keys with similar bytes', () => {
    const keys = ['Ã©', 'é', 'a', 'aa', '\u0000', '\u00ff', 'key', 'kez', '🙂']
    const object = Object.fromEntries(keys.map((key, i) => [key, i]))
    for (let i = 0; i < 3; i++) expect(decodeCbor(encodeCbor([object, object]))).toStrictEqual([object, object])
  })

  it('returns bytes as a view on the message', () => {
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
    [{ rows: [1, { f: () => 1 }] }, 'value.rows[1].f is the function f, which cannot be sent'],
    [new Map([['a b', Symbol('s')]]), 'value["a b"] is Symbol(s)'],
    [[new Set([1, Promise.resolve()])], 'value[0][1] is a Promise'],
    [Symbol('s'), 'value is Symbol(s)'],
  ])('names the path of the part that it refuses: %o', (value, message) => {
    expect(() => encodeCbor(value)).toThrow(message)
  })

  it('refuses a cycle by its path and accepts the same object twice', () => {
    const cycle: { list: unknown[] } = { list: [] }
    cycle.list.push({ back: cycle })
    expect(() => encodeCbor(cycle)).toThrow('value.list[0].back is a cycle')
    const shared = { a: 1 }
    expect(decodeCbor(encodeCbor([shared, shared]))).toStrictEqual([{ a: 1 }, { a: 1 }])
  })

  it('refuses values that are nested too deep', () => {
    let deep: unknown = 1
    for (let i = 0; i < 501; i++) deep = [deep]
    expect(() => encodeCbor(deep)).toThrow('nested deeper than 500')
    expect(decodeCbor(encodeCbor((deep as unknown[])[0]))).toStrictEqual((deep as unknown[])[0])
  })

  it('accepts only values that can be decoded, at the limits of depth and size', () => {
    const nested = (wrap: (value: unknown) => unknown, leaf: unknown, levels = 500) => {
      let value = leaf
      for (let i = 0; i < levels; i++) value = wrap(value)
      return value
    }
    const wraps = [
      (v: unknown) => [v],
      (v: unknown) => ({ v }),
      (v: unknown) => new Set([v]),
      (v: unknown) => new Map([[1, v]]),
      (v: unknown) => new Map([[v, 1]]),
    ]
    for (const wrap of wraps) {
      for (const leaf of [1, 5n, new Date(1), new Uint8Array(1), new Int16Array(1)]) {
        expect(() => decodeCbor(encodeCbor(nested(wrap, leaf)))).not.toThrow()
      }
      expect(() => encodeCbor(nested(wrap, 1, 501))).toThrow('nested deeper than 500')
    }
    const most = (1n << (8n * 4096n)) - 1n
    for (const big of [most, -1n - most]) expect(decodeCbor(encodeCbor(big)) === big).toBe(true)
    expect(() => encodeCbor([most + 1n])).toThrow('value[0] is a BigInt of more than 4096 bytes')
  })

  it('writes a date as seconds, exact to the millisecond over the whole range of Date', () => {
    const near = [4.398e15, 4.45e15, 4.5e15, 8.64e15 - 1000, 1_700_000_000_000, 0]
    for (const from of near.flatMap((ms) => [ms, -ms])) {
      for (let i = 0; i < 1000; i++) {
        const bytes = encodeCbor(new Date(from + i))
        expect(bytes[0]).toBe(0xc1)
        expect((decodeCbor(bytes) as Date).getTime()).toBe(from + i)
      }
    }
  })

  it('keeps the length of an array that a getter changes, and refuses other containers that change', () => {
    const grows: unknown[] = []
    grows.push({
      get more() {
        return grows.push(0)
      },
    })
    expect(decodeCbor(encodeCbor(grows))).toStrictEqual([{ more: 2 }])
    const shrinks: unknown[] = [
      {
        get less() {
          return shrinks.pop()
        },
      },
      2,
    ]
    expect(decodeCbor(encodeCbor(shrinks))).toStrictEqual([{ less: 2 }, undefined])
    const map = new Map<unknown, unknown>()
    const set = new Set<unknown>()
    const object: Record<string, unknown> = {}
    const changes = (change: () => unknown) => ({
      get change() {
        change()
        return 1
      },
    })
    map.set(
      1,
      changes(() => map.set({}, 1)),
    )
    set.add(changes(() => set.clear())).add(2)
    object['a'] = changes(() => delete object['b'])
    object['b'] = 1
    for (const value of [map, set, object]) {
      expect(() => encodeCbor({ value })).toThrow('value.value changed while it was being encoded')
    }
  })

  it('ignores Symbol.toStringTag and goes by the class of a value', () => {
    class Fake {
      get [Symbol.toStringTag]() {
        return 'ArrayBuffer'
      }
    }
    class Plain extends Map<unknown, unknown> {
      override get [Symbol.toStringTag]() {
        return 'Object'
      }
    }
    expect(() => encodeCbor(new Fake())).toThrow('value is a Fake')
    expect(() => encodeCbor(Object.create(ArrayBuffer.prototype))).toThrow(EncodeError)
    expect(() => encodeCbor(Object.create(Map.prototype))).toThrow(EncodeError)
    for (const length of [-1, 1.5, 'two']) {
      const array = new Proxy([1], { get: (target, key) => (key === 'length' ? length : Reflect.get(target, key)) })
      expect(() => encodeCbor({ array })).toThrow('value.array is a Proxy of an array without a valid length')
    }
    expect(decodeCbor(encodeCbor(new Plain([[1, 2]])))).toStrictEqual(new Map([[1, 2]]))
  })

  it('sends own enumerable properties only', () => {
    const object = Object.create({ inherited: 1 }, { hidden: { value: 2 }, own: { value: 3, enumerable: true } })
    expect(decodeCbor(encodeCbor(object))).toStrictEqual({ own: 3 })
  })

  it('throws an EncodeError for everything that a getter or a Proxy throws', () => {
    const throws = (thrown: unknown) => ({
      list: [
        {
          get it() {
            throw thrown
          },
        },
      ],
    })
    const revoked = Proxy.revocable({}, {})
    revoked.revoke()
    const moved = new ArrayBuffer(4)
    structuredClone(moved, { transfer: [moved] })
    for (const thrown of [null, Object.create(null), new RangeError('no'), revoked.proxy]) {
      expect(() => encodeCbor(throws(thrown))).toThrow(EncodeError)
      expect(() => encodeCbor(throws(thrown))).toThrow('value.list[0].it cannot be read')
    }
    for (const value of [revoked.proxy, moved]) expect(() => encodeCbor([value])).toThrow(EncodeError)
  })

  it('names the error of a getter and can encode the next value', () => {
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

  it('can be called by a getter of the value that is being encoded', () => {
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
