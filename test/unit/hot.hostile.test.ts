import { BinaryWriter } from '@bufbuild/protobuf/wire'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { CallRequest, CallResponse } from '../../proto/gen/farpool/routing/v1/routing.js'
import { FromWorker, ToWorker } from '../../proto/gen/farpool/worker/v1/worker.js'
import { CallRequestWriter, decodeCallRequest, readOutcomes } from '../../wire/framing/call-codec.js'
import { decodeFromWorker, decodeToWorker, writeFromWorker, writeToWorker } from '../../wire/framing/frames.js'
import { ProtoWriter } from '../../wire/framing/protobuf.js'

/** The readers by hand agree with the generated code on messages of other writers, and throw an Error for invalid messages. */

const number = fc.oneof(fc.nat(300), fc.maxSafeNat(), fc.constant(Number.MAX_SAFE_INTEGER))
const small = fc.uint8Array({ maxLength: 40 })

/** A comparable form: views and Buffers of the same bytes are equal, and so are absent and undefined fields. */
const plain = (value: unknown): unknown =>
  JSON.parse(
    JSON.stringify(value, (_, part) => {
      if (part?.type === 'Buffer') return `bytes ${Buffer.from(part.data).toString('hex')}`
      return part instanceof Uint8Array ? `bytes ${Buffer.from(part).toString('hex')}` : part
    }) ?? 'null',
  )

const varint = (value: number): Uint8Array => new BinaryWriter().uint64(value).finish()
const field = (number: number, type: number, ...parts: Uint8Array[]): Buffer =>
  Buffer.concat([varint(number * 8 + type), ...parts])
const message = (number: number, ...fields: Uint8Array[]): Buffer => {
  const body = Buffer.concat(fields)
  return field(number, 2, varint(body.length), body)
}

/** Unknown fields of every wire type. */
const unknown = fc.oneof(
  number.map((value) => field(100, 0, varint(value))),
  fc.constant(field(2_000, 1, Buffer.alloc(8, 0xff))),
  small.map((value) => message(536_870_911, value)),
  fc.constant(field(101, 5, Buffer.alloc(4, 0xff))),
)
/** The fields in any order and number, among unknown fields. */
const among = (...fields: readonly fc.Arbitrary<Buffer>[]) =>
  fc.array(fc.oneof(...fields, unknown), { maxLength: 8 }).map((parts) => Buffer.concat(parts))

const numberField = (at: number) => number.map((value) => field(at, 0, varint(value)))
const bytesField = (at: number) => small.map((value) => message(at, value))
const within = (at: number, body: fc.Arbitrary<Buffer>) => body.map((value) => message(at, value))
const packed = fc.array(number).map((ids) => message(2, ...ids.map(varint)))
const text = fc.string().map((value) => Buffer.from(value))

const item = among(numberField(1), bytesField(2), bytesField(3))
const group = among(
  within(1, text),
  within(2, text),
  bytesField(3),
  bytesField(4),
  fc.nat(9).map((value) => field(5, 0, varint(value))),
  fc.nat(1).map((value) => field(7, 0, varint(value))),
  numberField(9),
  within(10, item),
  within(10, item),
)
const request = among(within(1, group), numberField(2), packed)
const response = among(within(1, among(numberField(1), bytesField(2), within(3, among(numberField(100))))))
const task = among(
  numberField(1),
  fc.nat(9).map((value) => field(2, 0, varint(value))),
  bytesField(3),
  bytesField(4),
)
const run = within(2, among(within(1, text), bytesField(2), bytesField(3), within(8, task), within(8, task)))
const done = within(
  4,
  among(numberField(1), bytesField(2), fc.constant(field(5, 5, Buffer.from('0000003f', 'hex'))), within(3, unknown)),
)

const readResponse = (bytes: Uint8Array) => {
  const outcomes: unknown[] = []
  const received = readOutcomes(bytes, (id, payload, failures) => outcomes.push({ id, payload, failures }))
  return { outcomes, received }
}

const codecs: readonly [
  string,
  fc.Arbitrary<Buffer>,
  (bytes: Uint8Array) => unknown,
  (bytes: Uint8Array) => unknown,
][] = [
  ['CallRequest', request, decodeCallRequest, (bytes) => CallRequest.decode(bytes)],
  [
    'CallResponse',
    response,
    readResponse,
    (bytes) => {
      const { outcomes, received } = CallResponse.decode(bytes)
      return { outcomes, received }
    },
  ],
  ['ToWorker', run, decodeToWorker, (bytes) => ToWorker.decode(bytes).kind],
  ['FromWorker', done, decodeFromWorker, (bytes) => FromWorker.decode(bytes).kind],
]

/** How many bytes a decoded value holds. */
function held(value: unknown): number {
  if (value instanceof Uint8Array) return value.length
  if (typeof value !== 'object' || value === null) return 0
  return Object.values(value).reduce((sum: number, part) => sum + held(part), 0)
}

describe.each(codecs)('%s', (_, valid, decode, generated) => {
  it('is read as the generated code does, with fields in any order and number and with unknown fields', () => {
    fc.assert(
      fc.property(valid, (bytes) => {
        expect(plain(decode(bytes))).toEqual(plain(generated(bytes)))
      }),
    )
  })

  it('that is truncated is an error, or a value if only whole fields are missing', () => {
    fc.assert(
      fc.property(valid, (bytes) => {
        for (let cut = 0; cut < bytes.length; cut++) {
          const part = bytes.subarray(0, cut)
          let value: unknown
          try {
            value = decode(part)
          } catch (error) {
            expect((error as Error).message).not.toBe('')
            continue
          }
          expect(plain(value)).toEqual(plain(generated(part)))
        }
      }),
      { numRuns: 30 },
    )
  })

  it('that is changed is a value or an error, and never has more bytes than it had', () => {
    const change = fc.tuple(fc.nat(), fc.oneof(fc.nat(255), fc.constantFrom(0, 0x7f, 0x80, 0xff)))
    fc.assert(
      fc.property(valid, fc.array(change, { minLength: 1, maxLength: 6 }), small, (bytes, changes, around) => {
        // As from a socket: a view on a larger buffer, whose other bytes must not be read.
        const outer = Buffer.concat([around, bytes, Buffer.alloc(64, 0xee)])
        const view = outer.subarray(around.length, around.length + bytes.length)
        for (const [at, byte] of changes) if (view.length > 0) view[at % view.length] = byte
        let value: unknown
        try {
          value = decode(view)
        } catch (error) {
          expect((error as Error).message).not.toBe('')
        }
        expect(held(value)).toBeLessThanOrEqual(view.length)
      }),
    )
  })
})

describe('numbers', () => {
  const id = (hex: string) => message(1, message(10, field(1, 0, Buffer.from(hex, 'hex'))))

  it('are read up to the largest safe integer and refused above', () => {
    const largest = id('ffffffffffffff0f')
    expect(decodeCallRequest(largest).groups[0]?.calls[0]?.id).toBe(Number.MAX_SAFE_INTEGER)
    for (const hex of ['8080808080808010', 'ffffffffffffffffff01', 'ffffffffffffffffffff01']) {
      expect(() => decodeCallRequest(id(hex))).toThrow('a number')
    }
  })
})

describe('large values', () => {
  /** Around the size from which values are not copied, and far above. */
  const size = fc.constantFrom(32 * 1024 - 1, 32 * 1024, 40 * 1024, 200_000)
  const parts = fc.array(fc.oneof(size, fc.nat(200)), { minLength: 1, maxLength: 4 })
  const filled = (sizes: readonly number[]) => sizes.map((length, at) => new Uint8Array(length).fill(at + 1))
  const digest = (values: readonly Uint8Array[]) =>
    values.map((value) => `${value.length} times ${value[0]} ${value.at(-1)}`)

  it('are written in order, among small values', () => {
    fc.assert(
      fc.property(parts, parts, number, (first, second, id) => {
        const writer = new CallRequestWriter()
        const head = CallRequest.decode(message(1)).groups[0]
        if (!head) throw new Error('there is no group')
        writer.begin(head)
        writer.add(id, filled(first), undefined)
        writer.begin({ ...head, function: 'g' })
        writer.add(id, [], filled(second)[0])
        const { groups } = CallRequest.decode(writer.finish())
        expect(digest(groups[0]?.calls[0]?.args ?? [])).toEqual(digest(filled(first)))
        expect(digest([groups[1]?.calls[0]?.chunk ?? new Uint8Array()])).toEqual(digest(filled(second).slice(0, 1)))

        const frames = new ProtoWriter()
        const [payload] = filled(first)
        writeFromWorker(frames, {
          $case: 'done',
          value: { task: id, payload, failures: [], status: undefined, runMs: 0.5 },
        })
        const written = Buffer.concat(frames.views())
        expect(frames.length).toBe(written.length)
        expect(frames.take().equals(written)).toBe(true)
        expect(FromWorker.decode(written.subarray(4)).kind).toMatchObject({ value: { task: id, runMs: 0.5 } })
        const common = { function: 'f', args: filled(second), kwargs: undefined, spread: false, replyKind: 0 }
        const tasks = [{ task: id, attempt: 1, args: filled(first), chunk: undefined }]
        writeToWorker(frames, {
          $case: 'run',
          value: { ...common, failFast: false, allowPartial: false, beginBy: 1, tasks },
        })
        const kind = ToWorker.decode(frames.takePieces().joined().subarray(4)).kind
        if (kind?.$case !== 'run') throw new Error('it is not a run')
        expect(digest(kind.value.args)).toEqual(digest(filled(second)))
        expect(digest(kind.value.tasks[0]?.args ?? [])).toEqual(digest(filled(first)))
        expect(frames.length).toBe(0)
      }),
      { numRuns: 30 },
    )
  })
})
