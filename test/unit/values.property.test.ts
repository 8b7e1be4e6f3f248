import { isDeepStrictEqual } from 'node:util'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decodeCbor } from '../../wire/values/cbor-decoder.js'
import { decodeJson, encodeJson } from '../../wire/values/json.js'
import { decodePayload, encodePayload } from '../../wire/values/payload.js'
import { DecodeError } from '../../wire/values/value-errors.js'

const travel = (value: unknown) => decodePayload(encodePayload(value, 'cbor')).value

/** Text without lone surrogates, which would arrive as U+FFFD. */
const text = fc.string({ unit: 'binary' }).map((string) => Buffer.from(string).toString())
const key = fc.oneof(text, fc.constantFrom('__proto__', 'constructor', 'toString', '0', '-1', ''))

const object = <T>(value: fc.Arbitrary<T>) =>
  fc.array(fc.tuple(key, value), { maxLength: 6 }).map((entries) => {
    const made = {}
    for (const [name, item] of entries) {
      Object.defineProperty(made, name, { value: item, writable: true, enumerable: true, configurable: true })
    }
    return made
  })

const scalar = fc.oneof(
  fc.double(),
  fc.integer(),
  fc.maxSafeInteger(),
  fc.constantFrom(
    -0,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
    2 ** 53,
    -(2 ** 53),
    23,
    24,
    255,
    256,
    65_535,
    65_536,
    2 ** 32,
  ),
  fc.bigInt(),
  fc.bigInt({ min: -(2n ** 65n), max: 2n ** 65n }),
  fc.constantFrom(2n ** 53n, -(2n ** 53n), 2n ** 63n, 2n ** 64n, 2n ** 64n - 1n, -(2n ** 64n), 0n),
  text,
  fc.boolean(),
  fc.constant(null),
  fc.constant(undefined),
  // For isDeepStrictEqual two invalid dates differ. docs/reference/values.md has an example of one.
  fc.date({ noInvalidDate: true }),
  fc.uint8Array(),
  fc.int16Array(),
  fc.float32Array(),
  fc.float64Array(),
  fc.bigInt64Array(),
  fc.uint8ClampedArray(),
  fc.int8Array(),
  fc.uint16Array(),
  fc.int32Array(),
  fc.uint32Array(),
  fc.bigUint64Array(),
  // The latest dates, whose seconds have the coarsest doubles.
  fc.integer({ min: 4.3e15, max: 8.64e15 }).map((ms) => new Date(ms)),
)

const { value } = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    scalar,
    fc.array(tie('value'), { maxLength: 6 }),
    object(tie('value')),
    fc.array(fc.tuple(tie('value'), tie('value')), { maxLength: 4 }).map((entries) => new Map(entries)),
    fc.array(tie('value'), { maxLength: 4 }).map((items) => new Set(items)),
    // Long arrays, which the codec reads and writes in other loops than short ones.
    fc.array(scalar, { minLength: 20, maxLength: 60 }),
    fc.array(fc.oneof({ weight: 20, arbitrary: fc.string() }, text, scalar), { minLength: 20, maxLength: 60 }),
  ),
}))

describe('a value over CBOR', () => {
  it('arrives unchanged', () => {
    fc.assert(
      fc.property(value, (sent) => {
        const arrived = travel(sent)
        // For the toEqual of vitest an own property named constructor would count as the class.
        return isDeepStrictEqual(arrived, sent) && prototypes(arrived)
      }),
      { numRuns: 2_000 },
    )
  })

  it('arrives unchanged if it is -0 or NaN', () => {
    fc.assert(
      fc.property(fc.array(fc.double()), (sent) => {
        const arrived = travel(sent) as number[]
        return arrived.length === sent.length && sent.every((number, i) => Object.is(number, arrived[i]))
      }),
    )
  })

  it('of random bytes is a value or a DecodeError, and no other error', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => onlyDecodeErrors(() => decodePayload(bytes))),
      { numRuns: 20_000 },
    )
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) =>
        onlyDecodeErrors(() =>
          decodePayload(Buffer.concat([Buffer.from([0x12, 0x80 | (bytes.length & 127), bytes.length >> 7]), bytes])),
        ),
      ),
      { numRuns: 20_000 },
    )
  })

  it('of random heads is a value or a DecodeError, and no other error', () => {
    // Mostly heads of containers, tags and lengths, which nest deeper than random bytes.
    const heads = [0x5f, 0x7f, 0x81, 0x82, 0x9f, 0xa1, 0xa2, 0xbf, 0xc0, 0xc1, 0xc2, 0xc3, 0xd8, 0xd9, 0xff, 0x61, 0x41]
    const byte = fc.oneof({ weight: 3, arbitrary: fc.constantFrom(...heads) }, { weight: 1, arbitrary: fc.nat(255) })
    const tagged = fc.constantFrom([0xd9, 1, 2], [0xd9, 1, 3], [0xd9, 0xd9, 0xf7], [0xd8, 77], [0xd8, 82])
    fc.assert(
      fc.property(
        fc.array(
          fc.oneof(
            byte.map((b) => [b]),
            tagged,
          ),
          { maxLength: 60 },
        ),
        (parts) => onlyDecodeErrors(() => decodeCbor(Uint8Array.from(parts.flat()))),
      ),
      { numRuns: 20_000 },
    )
  })

  it('of a mutated encoding is a value or a DecodeError, and no other error', () => {
    fc.assert(
      fc.property(value, fc.nat(), fc.nat(255), (sent, at, byte) => {
        const bytes = Uint8Array.from(encodePayload(sent, 'cbor'))
        bytes[at % bytes.length] = byte
        onlyDecodeErrors(() => decodePayload(bytes))
        onlyDecodeErrors(() => decodePayload(bytes.subarray(0, at % bytes.length)))
      }),
      { numRuns: 5_000 },
    )
  })
})

describe('a value over JSON', () => {
  it('arrives unchanged if JSON can carry it', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 4 }), (sent) => {
        const plain = JSON.parse(
          Buffer.from(JSON.stringify(sent))
            .toString()
            .replaceAll(/\\ud[89a-f][0-9a-f]{2}/g, '?'),
        )
        expect(decodeJson(encodeJson(plain))).toStrictEqual(JSON.parse(JSON.stringify(plain)))
      }),
      { numRuns: 1_000 },
    )
  })

  it('of random text is a value or a DecodeError, and no other error', () => {
    fc.assert(fc.property(fc.string({ unit: 'binary' }), (hostile) => onlyDecodeErrors(() => decodeJson(hostile))))
  })
})

function onlyDecodeErrors(decode: () => unknown): void {
  try {
    decode()
  } catch (error) {
    expect(error).toBeInstanceOf(DecodeError)
  }
}

/** Whether every object in a decoded value has the normal prototype. */
function prototypes(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return true
  if (value instanceof Map) return [...value].flat().every(prototypes)
  if (value instanceof Set || Array.isArray(value)) return [...value].every(prototypes)
  if (ArrayBuffer.isView(value) || value instanceof Date) return true
  return Object.getPrototypeOf(value) === Object.prototype && Object.values(value).every(prototypes)
}
