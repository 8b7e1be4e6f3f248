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
import { describeThrown, functionFailure } from '../../worker/describe-error.js'

const remote = (size: number, causes = 3): NonNullable<Failure['remote']> => ({
  type: 'TypeError',
  message: 'm'.repeat(size),
  stack: '    at f (file.js:1:2)\n'.repeat(size),
  cause: causes > 0 ? remote(size, causes - 1) : undefined,
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
    expect(describeThrown(error, false)).toMatchObject({ stack: '', cause: { message: 'inner', stack: '' } })
    expect(describeThrown(error, true).stack).toMatch(/^\s+at /)
  })

  it.each([
    [undefined, 'undefined', 'undefined'],
    [42, 'number', '42'],
    [Symbol('s'), 'symbol', 'Symbol(s)'],
    [{ code: 1 }, 'object', '{"code":1}'],
    [Object.assign(new Error('m'), { name: 'CustomError' }), 'CustomError', 'm'],
  ])('%o is described', (thrown, type, message) => {
    expect(describeThrown(thrown, true)).toMatchObject({ type, message })
  })

  it('with an endless chain of causes keeps the first ones', () => {
    const error: Error & { cause?: unknown } = new Error('again')
    error.cause = error
    let depth = 0
    for (let at = describeThrown(error, false); at.cause; at = at.cause) depth++
    expect(depth).toBe(8)
  })

  it('sets the status code, except UNAVAILABLE and invalid codes', () => {
    const codeOf = (code: unknown) => functionFailure(Object.assign(new Error(), { code }), false).code
    expect([5, 16, 14, 0, 17, 1.5, 'ENOENT'].map(codeOf)).toEqual([5, 16, 2, 2, 2, 2, 2])
  })
})
