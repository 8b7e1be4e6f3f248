import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { CallGroup, CallRequest, CallResponse } from '../../proto/gen/farpool/routing/v1/routing.js'
import { FromWorker, ToWorker } from '../../proto/gen/farpool/worker/v1/worker.js'
import { CallRequestWriter, decodeCallRequest, readOutcomes, writeOutcome } from '../../wire/framing/call-codec.js'
import {
  decodeFromWorker,
  decodeToWorker,
  type FromWorkerFrame,
  writeFromWorker,
  writeToWorker,
} from '../../wire/framing/frames.js'
import { ProtoWriter } from '../../wire/framing/protobuf.js'

/** The messages that are written and read by hand (decision 0002) have the same bytes and values as with the generated code. */

const number = fc.oneof(fc.nat(300), fc.maxSafeNat())
const small = fc.uint8Array({ maxLength: 200 })
const bytes = fc.oneof({ weight: 20, arbitrary: small }, { weight: 1, arbitrary: fc.constant(new Uint8Array(40_000)) })
const optional = fc.option(bytes, { nil: undefined })
const head = fc.record({
  pool: fc.string(),
  function: fc.string(),
  args: fc.array(small, { maxLength: 2 }),
  kwargs: fc.option(small, { nil: undefined }),
  replyKind: fc.nat(3),
  retries: fc.nat(9),
  spread: fc.boolean(),
  onError: fc.nat(2),
  timeoutMs: number,
  queueTimeoutMs: number,
  runTimeoutMs: number,
  allowPartial: fc.boolean(),
})
const item = fc.record({ id: number, args: fc.array(bytes, { maxLength: 3 }), chunk: optional })
const group = fc.tuple(head, fc.array(item, { maxLength: 5 }))
const failure = fc.record({
  chunk: fc.nat(9),
  item: fc.option(fc.nat(9), { nil: undefined }),
  status: fc.constant(undefined),
})

/** A comparable form, in which a view and a Buffer of the same bytes are equal. */
const plain = (value: unknown): unknown =>
  JSON.parse(
    JSON.stringify(value, (_, part) =>
      part instanceof Uint8Array
        ? `bytes ${Buffer.from(part).toString('hex')}`
        : part?.type === 'Buffer'
          ? `bytes ${Buffer.from(part.data).toString('hex')}`
          : part,
    ),
  )

/** The fields of a stream without a session. */
const alone = { session: undefined, received: 0, abandon: false, last: false }

describe('CallRequest', () => {
  it('is written so that the generated code reads it', () => {
    fc.assert(
      fc.property(fc.array(group, { maxLength: 4 }), fc.array(number), (groups, cancelled) => {
        const writer = new CallRequestWriter()
        for (const [common, calls] of groups) {
          writer.begin(common)
          for (const { id, args, chunk } of calls) writer.add(id, args, chunk)
        }
        for (const id of cancelled) writer.cancel(id)
        const read = CallRequest.decode(writer.finish())
        // 0 is the default, which is not written.
        const ids = cancelled.filter((id) => id !== 0)
        expect(plain(read)).toEqual(
          plain({ groups: groups.map(([common, calls]) => ({ ...common, calls })), cancelled: ids, ...alone }),
        )
      }),
    )
  })

  it('is read in the form that the generated code writes', () => {
    fc.assert(
      fc.property(fc.array(group, { maxLength: 4 }), fc.array(number), (groups, cancelled) => {
        const request = { groups: groups.map(([common, calls]) => ({ ...common, calls })), cancelled, ...alone }
        const written = Buffer.from(CallRequest.encode(request).finish())
        expect(plain(decodeCallRequest(written))).toEqual(plain(CallRequest.decode(written)))
      }),
    )
  })

  it('is read with its fields in any order and with unknown fields', () => {
    const unknown = Buffer.from('ba3e0478787878', 'hex')
    const empty = CallGroup.decode(new Uint8Array())
    const calls = (ids: number[]) =>
      CallGroup.encode({ ...empty, calls: ids.map((id) => ({ id, args: [], chunk: undefined })) }).finish()
    const named = CallGroup.encode({ ...empty, function: 'f', timeoutMs: 7 }).finish()
    const mixed = Buffer.concat([calls([1]), unknown, named, calls([2, 3]), unknown])
    const request = Buffer.concat([Buffer.from('1005', 'hex'), unknown, Buffer.from([0x0a, mixed.length]), mixed])
    const { groups, cancelled } = decodeCallRequest(request)
    expect(groups).toMatchObject([{ function: 'f', timeoutMs: 7, calls: [{ id: 1 }, { id: 2 }, { id: 3 }] }])
    expect(cancelled).toEqual([5])
  })

  it('that is truncated or changed is a request or an error, and never has more bytes than it had', () => {
    const any = fc.tuple(group, fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 4 }), fc.nat())
    fc.assert(
      fc.property(any, ([[common, calls], changes, cut]) => {
        const whole = Buffer.from(
          CallRequest.encode({ groups: [{ ...common, calls }], cancelled: [], ...alone }).finish(),
        )
        for (const [at, byte] of changes) whole[at % whole.length] = byte
        try {
          const { groups } = decodeCallRequest(whole.subarray(0, cut % (whole.length + 1)))
          const held = groups.flatMap((one) =>
            one.calls.flatMap(({ args, chunk }) => [...args, ...(chunk ? [chunk] : [])]),
          )
          expect(held.reduce((sum, { length }) => sum + length, 0)).toBeLessThanOrEqual(whole.length)
        } catch (error) {
          expect((error as Error).message).not.toBe('')
        }
      }),
    )
  })
})

describe('CallResponse', () => {
  const outcome = fc.record({ id: number, payload: optional, failures: fc.array(failure, { maxLength: 2 }) })

  it('is written and read as the generated code does', () => {
    fc.assert(
      fc.property(fc.array(outcome, { maxLength: 6 }), (outcomes) => {
        const writer = new ProtoWriter(8)
        for (const { id, payload, failures } of outcomes) writeOutcome(writer, id, payload, failures)
        const written = writer.take()
        expect(plain(CallResponse.decode(written).outcomes)).toEqual(plain(outcomes))
        const read: unknown[] = []
        const generated = CallResponse.encode({ outcomes, received: 0, maxMessageBytes: 0 })
        readOutcomes(Buffer.from(generated.finish()), (id, payload, failures) => read.push({ id, payload, failures }))
        expect(plain(read)).toEqual(plain(outcomes))
      }),
    )
  })
})

describe('a frame', () => {
  const task = fc.record({ task: number, attempt: fc.nat(9), args: fc.array(bytes, { maxLength: 2 }), chunk: optional })
  const run = fc
    .tuple(head, fc.boolean(), fc.array(task, { maxLength: 4 }), fc.constantFrom(0, 12.5, 1e9))
    .map(([{ function: name, args, kwargs, spread, replyKind, allowPartial }, failFast, tasks, beginBy]) => ({
      function: name,
      args,
      kwargs,
      spread,
      replyKind,
      failFast,
      allowPartial,
      tasks,
      beginBy,
    }))

  it('of tasks is written and read as the generated code does', () => {
    fc.assert(
      fc.property(run, (value) => {
        const writer = new ProtoWriter(8)
        writeToWorker(writer, { $case: 'run', value })
        const frame = writer.take()
        expect(frame.readUInt32BE()).toBe(frame.length - 4)
        expect(plain(ToWorker.decode(frame.subarray(4)).kind)).toEqual(plain({ $case: 'run', value }))
        const generated = Buffer.from(ToWorker.encode({ kind: { $case: 'run', value } }).finish())
        expect(plain(decodeToWorker(generated))).toEqual(plain({ $case: 'run', value }))
      }),
    )
  })

  it('of a result is written and read as the generated code does', () => {
    const done = fc.record({ task: number, payload: optional, runMs: fc.constantFrom(0, 0.5, 1024) })
    fc.assert(
      fc.property(done, (facts) => {
        const kind: FromWorkerFrame = { $case: 'done', value: { ...facts, failures: [], status: undefined } }
        const writer = new ProtoWriter(8)
        writeFromWorker(writer, kind)
        expect(plain(FromWorker.decode(writer.take().subarray(4)).kind)).toEqual(plain(kind))
        const generated = Buffer.from(FromWorker.encode({ kind }).finish())
        expect(plain(decodeFromWorker(generated))).toEqual(plain(kind))
      }),
    )
  })
})
