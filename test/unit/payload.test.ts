import { describe, expect, it } from 'vitest'
import { Payload } from '../../proto/gen/farpool/v1/payload.js'
import { decodePayload, encodePayload } from '../../wire/values/payload.js'
import { DecodeError, EncodeError } from '../../wire/values/value-errors.js'

const decode = (hex: string) => decodePayload(Buffer.from(hex, 'hex'))

describe('a payload', () => {
  // Around the lengths at which the head takes one more byte.
  it.each([0, 100, 125, 126, 127, 128, 16_380, 16_383, 16_384, 2_097_151, 2_097_152])(
    'of %i bytes arrives',
    (length) => {
      const text = 'x'.repeat(length)
      for (const kind of ['cbor', 'json'] as const) {
        expect(decodePayload(encodePayload(text, kind))).toStrictEqual({ kind, value: text })
      }
      const bytes = new Uint8Array(length).fill(7)
      const raw = decodePayload(encodePayload(bytes, 'raw'))
      // Not toStrictEqual, which takes seconds for megabytes.
      expect([raw.kind, Buffer.from(raw.value as Uint8Array).equals(bytes)]).toStrictEqual(['raw', true])
    },
  )

  it('is what any protobuf library reads and writes', () => {
    for (const length of [0, 120, 130, 20_000]) {
      const value = { text: 'ü'.repeat(length) }
      const json = JSON.stringify(value)
      expect(Payload.decode(encodePayload(value, 'json')).kind).toStrictEqual({ $case: 'json', value: json })
      const made = Payload.encode({ kind: { $case: 'json', value: json } }).finish()
      expect(encodePayload(value, 'json')).toStrictEqual(new Uint8Array(made))
      const read = Payload.decode(encodePayload(value, 'cbor')).kind
      expect(read?.$case).toBe('cbor')
      expect(decodePayload(Payload.encode({ kind: read }).finish()).value).toStrictEqual(value)
    }
  })

  it('of kind raw carries bytes and nothing else', () => {
    for (const bytes of [new Uint8Array([1, 2]), Buffer.from([1, 2]), new Uint8Array([1, 2]).buffer]) {
      const { kind, value } = decodePayload(encodePayload(bytes, 'raw'))
      expect([kind, value]).toStrictEqual(['raw', new Uint8Array([1, 2])])
      expect(Object.getPrototypeOf(value)).toBe(Uint8Array.prototype)
    }
    for (const other of ['text', [1, 2], null, undefined, new Int16Array(1), new DataView(new ArrayBuffer(1))]) {
      expect(() => encodePayload(other, 'raw')).toThrow('a raw payload carries bytes')
    }
  })

  it('of raw bytes that cannot be read is refused with an EncodeError', () => {
    const moved = new ArrayBuffer(4)
    const view = new Uint8Array(moved)
    structuredClone(moved, { transfer: [moved] })
    const revoked = Proxy.revocable({}, {})
    revoked.revoke()
    for (const value of [moved, view, revoked.proxy]) expect(() => encodePayload(value, 'raw')).toThrow(EncodeError)
  })

  it('shares no memory with the encoded value or with another payload', () => {
    const bytes = new Uint8Array([1, 2, 3])
    const payloads = (['raw', 'cbor'] as const).map((kind) => encodePayload(bytes, kind))
    bytes.fill(9)
    encodePayload([4, 5, 6, 7, 8], 'cbor')
    for (const payload of payloads) expect(decodePayload(payload).value).toStrictEqual(new Uint8Array([1, 2, 3]))
  })

  it('decodes to bytes that are a view on the message', () => {
    for (const kind of ['raw', 'cbor'] as const) {
      const payload = encodePayload(new Uint8Array([1, 2, 3]), kind)
      expect((decodePayload(payload).value as Uint8Array).buffer).toBe(payload.buffer)
    }
  })

  it('may have unknown fields, and the last of two values counts', () => {
    expect(decode('2a01ff120102')).toStrictEqual({ kind: 'cbor', value: 2 })
    expect(decode('0a0131120102')).toStrictEqual({ kind: 'cbor', value: 2 })
    expect(decode('1201020a0131')).toStrictEqual({ kind: 'json', value: 1 })
  })

  it.each([
    ['', 'none of json, cbor, raw is set'],
    ['2a01ff', 'none of json, cbor, raw is set'],
    ['0aff', 'not a farpool.v1.Payload'],
    ['12050a', 'not a farpool.v1.Payload'],
    ['0200', 'not a farpool.v1.Payload'],
    ['0a01ff', 'not a farpool.v1.Payload'],
    ['0a037b6f70', 'malformed JSON'],
    ['1200', 'malformed CBOR at byte 0: the value ends early'],
  ])('%s is refused: %s', (hex, why) => {
    expect(() => decode(hex)).toThrow(why)
    expect(() => decode(hex)).toThrow(DecodeError)
  })
})
