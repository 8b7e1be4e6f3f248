import { describe, expect, it } from 'vitest'
import { Status } from '../../proto/gen/google/rpc/status.js'
import {
  asFailure,
  Failure,
  failureToStatus,
  failureToTrailer,
  statusToFailure,
  TRAILER_BUDGET_BYTES,
} from '../../wire/failure.js'
import { Code, REASONS, type Reason } from '../../wire/reason.js'
import { percentEncodedLength } from '../../wire/truncate.js'
import { decodePayload, encodePayload } from '../../wire/values/payload.js'
import { describeThrown, functionFailure } from '../../worker/describe-error.js'

const remote = (size: number, causes = 3): NonNullable<Failure['remote']> => ({
  type: 'TypeError',
  message: 'm'.repeat(size),
  stack: '    at f (file.js:1:2)\n'.repeat(size),
  cause: causes > 0 ? remote(size, causes - 1) : undefined,
  code: 'ERR_X',
  properties: encodePayload({ detail: 'p'.repeat(size) }, 'cbor'),
  errors: causes === 3 ? [remote(size, 0)] : [],
  stackWithheld: false,
})

describe('a failure', () => {
  it.each(Object.keys(REASONS) as Reason[])('%s is the same after it was sent as a google.rpc.Status', (reason) => {
    const failure = new Failure(reason, 'why', {
      started: true,
      metadata: { pid: '7' },
      retryDelayMs: 1_500,
      remote: remote(3),
    })
    const back = statusToFailure(Status.decode(Status.encode(failureToStatus(failure)).finish()))
    expect(back).toMatchObject({
      reason,
      message: 'why',
      code: Code[REASONS[reason].code],
      started: true,
      metadata: { pid: '7' },
      retryDelayMs: 1_500,
    })
    expect(back.remote).toEqual(remote(3))
  })

  it('of a crash is never UNAVAILABLE, because gRPC clients send an UNAVAILABLE call again by themselves', () => {
    const unavailable = (Object.keys(REASONS) as Reason[]).filter((reason) => REASONS[reason].code === 'UNAVAILABLE')
    expect(unavailable).toEqual(['SERVER_DRAINING', 'NO_WORKERS', 'CONNECTION_FAILED'])
  })

  it('of a status without details keeps its code and has the reason INTERNAL', () => {
    expect(statusToFailure({ code: 7, message: 'no', details: [] })).toMatchObject({ reason: 'INTERNAL', code: 7 })
    expect(asFailure('text')).toMatchObject({ reason: 'INTERNAL', message: 'text' })
  })

  it('is read from the valid details if others are malformed', () => {
    const status = failureToStatus(new Failure('WORKER_CRASHED', 'why', { metadata: { pid: '7' } }))
    for (const kind of ['google.rpc.ErrorInfo', 'google.rpc.RetryInfo', 'farpool.v1.RemoteError'])
      status.details.push({ typeUrl: `type.googleapis.com/${kind}`, value: Buffer.from('0aff', 'hex') })
    expect(statusToFailure(status)).toMatchObject({ reason: 'WORKER_CRASHED', message: 'why', metadata: { pid: '7' } })
  })

  it.each([0, 10, 1_000, 100_000])(
    'with texts of %i characters fits into the trailers and keeps its reason',
    (size) => {
      for (const message of ['x'.repeat(size), '🙂'.repeat(size), '%'.repeat(size)]) {
        const trailer = failureToTrailer(
          new Failure('FUNCTION_ERROR', message, { remote: remote(size), metadata: { type: 'TypeError' } }),
        )
        const bytes = percentEncodedLength(trailer.message) + Math.ceil(trailer.details.length / 3) * 4
        expect(bytes).toBeLessThan(TRAILER_BUDGET_BYTES)
        const back = statusToFailure(Status.decode(trailer.details))
        expect(back).toMatchObject({
          reason: 'FUNCTION_ERROR',
          started: true,
          metadata: { type: 'TypeError' },
          remote: { type: 'TypeError' },
        })
      }
    },
  )

  it('has its stacks truncated before its messages', () => {
    const long = { ...remote(0, 0), message: 'kept', stack: 's'.repeat(50_000) }
    const back = statusToFailure(
      Status.decode(failureToTrailer(new Failure('FUNCTION_ERROR', 'kept', { remote: long })).details),
    )
    expect(back.remote?.message).toBe('kept')
    expect(back.remote?.stack.length).toBeLessThan(4_096)
  })
})

describe('a thrown value', () => {
  it('has no stack if stacks are not sent', () => {
    const error = new Error('outer', { cause: new Error('inner') })
    expect(describeThrown(error, { stacks: false, kind: 'cbor' })).toMatchObject({
      stack: '',
      cause: { message: 'inner', stack: '' },
    })
    expect(describeThrown(error, { stacks: true, kind: 'cbor' }).stack).toMatch(/^\s+at /)
  })

  it.each([
    [undefined, 'undefined', 'undefined'],
    [42, 'number', '42'],
    [Symbol('s'), 'symbol', 'Symbol(s)'],
    [{ code: 1 }, 'object', '{"code":1}'],
    [Object.assign(new Error('m'), { name: 'CustomError' }), 'CustomError', 'm'],
  ])('%o is described', (thrown, type, message) => {
    expect(describeThrown(thrown, { stacks: true, kind: 'cbor' })).toMatchObject({ type, message })
  })

  it.each([
    ['cyclic', () => Object.assign([], { 0: Object.assign({}, { n: 10n }) }), '[ { n: 10n } ]'],
    [
      'a class instance',
      () =>
        new (class Oops {
          status = 4
        })(),
      '{"status":4}',
    ],
  ])('that JSON cannot print is described all the same: %s', (_, thrown, message) => {
    expect(describeThrown(thrown(), { stacks: true, kind: 'cbor' })).toMatchObject({ type: 'object', message })
  })

  it.each([
    ['its class, which has no name of its own', new (class HttpError extends Error {})('m'), 'HttpError'],
    ['the name that it has itself', Object.assign(new (class A extends Error {})('m'), { name: 'Custom' }), 'Custom'],
    ['the name that its class defines', new DOMException('m', 'AbortError'), 'AbortError'],
    ['a class of the language', new RangeError('m'), 'RangeError'],
    ['a class without a name', new (class extends TypeError {})('m'), 'TypeError'],
  ])('has the type of %s', (_, thrown, type) => {
    expect(describeThrown(thrown, { stacks: true, kind: 'cbor' }).type).toBe(type)
  })

  const propertiesOf = (thrown: unknown, kind: 'cbor' | 'json' = 'cbor') => {
    const { properties } = describeThrown(thrown, { stacks: false, kind })
    return properties && decodePayload(properties).value
  }

  it('has its own properties, as far as its encoding carries them, and its code', () => {
    const error = Object.assign(new Error('m'), {
      code: 'ENOENT',
      status: 503,
      at: new Date(0),
      socket: { write: () => {} },
    })
    Object.defineProperty(error, 'trap', { enumerable: true, get: () => Reflect.ownKeys(1 as never) })
    expect(describeThrown(error, { stacks: false, kind: 'cbor' }).code).toBe('ENOENT')
    expect(propertiesOf(error)).toEqual({ status: 503, at: new Date(0) })
    expect(propertiesOf(error, 'json')).toEqual({ status: 503, at: '1970-01-01T00:00:00.000Z' })
    expect(propertiesOf(Object.assign(new Error('m'), { code: 5 }))).toEqual({ code: 5 })
    expect(propertiesOf(new Error('m'))).toBeUndefined()
    class Coded extends Error {
      get code() {
        return 42
      }
    }
    expect(propertiesOf(new Coded('m'))).toEqual({ code: 42 })
    expect(propertiesOf({ status: 4 })).toEqual({ status: 4 })
  })

  it('has as many properties as 8 KiB hold, and those that follow a longer one', () => {
    const error = Object.assign(new Error('m'), { large: 'x'.repeat(10_000), small: 1 })
    expect(propertiesOf(error)).toEqual({ small: 1 })
    const many = Object.assign(new Error('m'), Object.fromEntries(Array.from({ length: 10_000 }, (_, at) => [at, at])))
    const { properties } = describeThrown(many, { stacks: false, kind: 'cbor' })
    expect(properties?.length).toBeGreaterThan(4_000)
    expect(properties?.length).toBeLessThan(8_300)
  })

  it('has the inner errors of an AggregateError, and of an error like it', () => {
    const inner = [new TypeError('a'), 'b']
    const alike = Object.assign(new Error('m'), { errors: [new RangeError('c')] })
    const described = (thrown: unknown) => describeThrown(thrown, { stacks: false, kind: 'cbor' })
    expect(described(new AggregateError(inner, 'm')).errors).toMatchObject([{ type: 'TypeError' }, { message: 'b' }])
    expect(described(alike)).toMatchObject({ errors: [{ type: 'RangeError' }], properties: undefined })
    const other = Object.assign(new Error('m'), { errors: [{ path: 'x' }] })
    expect([described(other).errors, propertiesOf(other)]).toEqual([[], { errors: [{ path: 'x' }] }])
    const tree = (depth: number): Error =>
      new AggregateError(depth === 0 ? [] : Array.from({ length: 10 }, () => tree(depth - 1)), 'm')
    const count = (one: ReturnType<typeof described>): number => one.errors.reduce((sum, next) => sum + count(next), 1)
    expect(count(described(tree(3)))).toBe(32)
  })

  it('has only the frames of its user in its stack', () => {
    const { stack } = describeThrown(new Error('a\n    at message (x.js:1:1)'), { stacks: true, kind: 'cbor' })
    expect(stack).toMatch(/^\s+at .*failure\.test\.ts/)
    expect(stack).not.toMatch(/node:|at message/)
    expect(describeThrown(new Error('m'), { stacks: false, kind: 'cbor' })).toMatchObject({ stackWithheld: true })
    const bare = Object.assign(new Error('m'), { stack: undefined })
    for (const stacks of [true, false])
      expect(describeThrown(bare, { stacks, kind: 'cbor' })).toMatchObject({ stack: '', stackWithheld: false })
  })

  it('with an endless chain of causes keeps the first ones', () => {
    const error: Error & { cause?: unknown } = new Error('again')
    error.cause = error
    let depth = 0
    for (let at = describeThrown(error, { stacks: false, kind: 'cbor' }); at.cause; at = at.cause) depth++
    expect(depth).toBe(8)
  })

  it('sets the status code, except UNAVAILABLE and invalid codes', () => {
    const codeOf = (code: unknown) =>
      functionFailure(Object.assign(new Error(), { code }), { stacks: false, kind: 'cbor' }).code
    expect([5, 16, 14, 0, 17, 1.5, 'ENOENT'].map(codeOf)).toEqual([5, 16, 2, 2, 2, 2, 2])
  })
})
