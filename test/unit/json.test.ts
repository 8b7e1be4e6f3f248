import { describe, expect, it } from 'vitest'
import { decodeJson, encodeJson } from '../../wire/values/json.js'
import { DecodeError, EncodeError } from '../../wire/values/value-errors.js'

const nested = (levels: number): unknown => {
  let value: unknown = 1
  for (let i = 0; i < levels; i++) value = i % 2 === 0 ? [value] : { value }
  return value
}

describe('encodeJson', () => {
  it.each([
    [undefined, 'null'],
    [null, 'null'],
    [-0, '0'],
    ['a"b', '"a\\"b"'],
    [{ a: undefined, b: [null] }, '{"b":[null]}'],
    [new Date(0), '"1970-01-01T00:00:00.000Z"'],
    [{ at: new Date(0) }, '{"at":"1970-01-01T00:00:00.000Z"}'],
    [Object.assign(Object.create(null), { a: 1 }), '{"a":1}'],
    [JSON.parse('{"__proto__":{"a":1}}'), '{"__proto__":{"a":1}}'],
  ])('writes %o as %s', (value, text) => {
    expect(encodeJson(value)).toBe(text)
  })

  it.each([
    [{ rows: [1, { f: () => 1 }] }, 'value.rows[1].f is the function f'],
    [{ 'a b': Number.NaN }, 'value["a b"] is NaN'],
    [[1, Number.NEGATIVE_INFINITY], 'value[1] is -Infinity'],
    [[1, undefined], 'value[1] is undefined'],
    // biome-ignore lint/suspicious/noSparseArray: the test needs a hole
    [[1, , 2], 'value[1] is undefined'],
    [{ a: 5n }, 'value.a is 5n'],
    [[Symbol('s')], 'value[0] is Symbol(s)'],
    [{ m: new Map() }, 'value.m is a Map'],
    [new Set(), 'value is a Set'],
    [Buffer.from('a'), 'value is a Buffer'],
    [new ArrayBuffer(1), 'value is an ArrayBuffer'],
    [new DataView(new ArrayBuffer(1)), 'value is a DataView'],
    [[Promise.resolve()], 'value[0] is a Promise'],
    [new Error('e'), 'value is an Error'],
    [/a/, 'value is a RegExp'],
    [[new Date(Number.NaN)], 'value[0] is an invalid Date'],
    [new Number(1), 'value is a Number'],
  ])('refuses %o: %s', (value, message) => {
    expect(() => encodeJson(value)).toThrow(message)
    expect(() => encodeJson(value)).toThrow('use CBOR')
    expect(() => encodeJson(value)).toThrow(EncodeError)
  })

  it('sends the result of toJSON and calls the toJSON of that result no more', () => {
    class Amount {
      constructor(readonly cents: number) {}
      toJSON(): unknown {
        return { euros: this.cents / 100 }
      }
    }
    class Itself {
      readonly a = 1
      toJSON(): unknown {
        return this
      }
    }
    expect(encodeJson([new Amount(250)])).toBe('[{"euros":2.5}]')
    expect(encodeJson(new Itself())).toBe('{"a":1}')
    expect(encodeJson(new URL('file:///x'))).toBe('"file:///x"')
    expect(() => encodeJson({ a: new Amount(Number.NaN) })).toThrow('value.a.euros is NaN')
  })

  it('refuses a cycle by its path and accepts the same object twice', () => {
    const cycle: { list: unknown[] } = { list: [] }
    cycle.list.push({ back: cycle })
    expect(() => encodeJson(cycle)).toThrow('value.list[0].back is a cycle')
    const shared = { a: 1 }
    expect(encodeJson([shared, shared])).toBe('[{"a":1},{"a":1}]')
  })

  it('throws an EncodeError with the path and the cause for everything that a getter throws', () => {
    const value = (thrown: unknown) => ({
      list: [
        {
          get it() {
            throw thrown
          },
        },
      ],
    })
    const thrown = new RangeError('no')
    expect(() => encodeJson(value(thrown))).toThrow(
      expect.objectContaining({
        name: 'EncodeError',
        message: 'value.list[0].it cannot be read: no',
        cause: thrown,
      }),
    )
    const revoked = Proxy.revocable({}, {})
    revoked.revoke()
    expect(() => encodeJson(value(Object.create(null)))).toThrow(EncodeError)
    expect(() => encodeJson([revoked.proxy])).toThrow(EncodeError)
  })

  it('replaces lone surrogates in texts and keys, and keeps texts that look like an escape', () => {
    expect(decodeJson(encodeJson({ 'k\ud800': ['v\udc00'] }))).toStrictEqual({ 'k\ufffd': ['v\ufffd'] })
    expect(decodeJson(encodeJson(['\\ud800', '🙂']))).toStrictEqual(['\\ud800', '🙂'])
  })
})

describe('decodeJson', () => {
  it.each(['', 'nope', '{"a":1', '[1,]', '01', 'NaN', '"\n"', '1 2'])('refuses %o with a DecodeError', (text) => {
    expect(() => decodeJson(text)).toThrow(DecodeError)
    expect(() => decodeJson(text)).toThrow('malformed JSON: ')
  })

  it('makes __proto__ an own property', () => {
    const value = decodeJson('{"__proto__":{"a":"\\u0041"},"constructor":1}') as object
    expect(Object.keys(value)).toStrictEqual(['__proto__', 'constructor'])
    expect(Object.getPrototypeOf(value)).toBe(Object.prototype)
  })

  it('has the same depth limit as encodeJson', () => {
    const most = nested(500)
    expect(decodeJson(encodeJson(most))).toStrictEqual(most)
    expect(() => encodeJson(nested(501))).toThrow('nested deeper than 500')
    expect(() => decodeJson(JSON.stringify(nested(501)))).toThrow('nested deeper than 500')
    expect(() => decodeJson('['.repeat(1_000_000))).toThrow(DecodeError)
  })

  it('does not count brackets inside a text as nesting', () => {
    const text = `${'['.repeat(2000)}"\\`
    expect(decodeJson(encodeJson([text, text]))).toStrictEqual([text, text])
  })
})
