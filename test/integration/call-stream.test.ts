import { type ServiceError, status } from '@grpc/grpc-js'
import { describe, expect, it } from 'vitest'
import type { CallItem, CallRequest, GetPoolResponse } from '../../proto/gen/farpool/v1/pool_service.js'
import type { Status } from '../../proto/gen/google/rpc/status.js'
import { statusToFailure } from '../../wire/failure.js'
import { sharedFarm } from '../support/farm.js'
import { until } from '../support/server.js'
import { alone, answer, group, json, one } from '../support/stub.js'

/** The RPC Call, from a client of nothing but generated stubs. */

const farm = sharedFarm({ args: ['--processes', '2', '--grace', '200'] })

describe('Call', () => {
  type Outcomes = { id: number; payload: unknown; failures: { status?: Status | undefined }[] }[]

  /** Writes messages and closes the stream. Resolves with the outcomes by id, and the error of the stream. */
  const talk = async (messages: CallRequest[]) => {
    const stream = farm.stub.call()
    const outcomes: Outcomes = []
    const ended = new Promise<ServiceError | undefined>((resolve) => {
      stream.on('data', (response: { outcomes: Outcomes }) => outcomes.push(...response.outcomes))
      stream.on('error', (error) => resolve(error as ServiceError))
      stream.on('end', () => resolve(undefined))
    })
    for (const message of messages) stream.write(message)
    stream.end()
    return { error: await ended, outcomes: outcomes.sort((a, b) => a.id - b.id) }
  }
  const reasons = (outcomes: Outcomes) =>
    outcomes.map(({ failures }) => failures.map(({ status }) => status && statusToFailure(status).reason).join())

  it('sends one outcome for each apply and each chunk, also after the client has closed its side', async () => {
    const applies = Array.from({ length: 100 }, (_, i) => one(i + 1, i, 1))
    const chunk = { id: 101, args: [], chunk: json([12, 13, 14]) }
    const { error, outcomes } = await talk([
      { groups: [group('add', applies)], cancelled: [], ...alone },
      { groups: [group('notThirteen', [chunk]), group('add', [one(102, 1)])], cancelled: [], ...alone },
    ])
    expect(error).toBeUndefined()
    expect(outcomes.map(({ id }) => id)).toEqual(Array.from({ length: 102 }, (_, i) => i + 1))
    expect(outcomes.slice(0, 100).map(({ payload }) => payload)).toEqual(applies.map((_, i) => json(i + 1)))
    expect(outcomes[100]).toMatchObject({ payload: json([12, 14]), failures: [{ item: 1 }] })
  })

  it('sends large and small results unchanged, whatever else travels in their messages', async () => {
    const raw = (id: number, length: number): CallItem => ({
      id,
      args: [{ kind: { $case: 'raw', value: Buffer.alloc(length, id) } }],
      chunk: undefined,
    })
    const lengths = [10, 40_000, 3, 32 * 1024, 300_000, 0, 1_200_000, 70_000, 1, 2_500_000]
    const { error, outcomes } = await talk([
      {
        groups: [
          group(
            'identity',
            lengths.concat(lengths, lengths).map((length, i) => raw(i + 1, length)),
          ),
        ],
        cancelled: [],
        ...alone,
      },
    ])
    expect(error).toBeUndefined()
    expect(outcomes).toHaveLength(3 * lengths.length)
    for (const { id, payload } of outcomes) {
      const { value } = (payload as { kind: { value: Uint8Array } }).kind
      const sent = Buffer.alloc(lengths[(id - 1) % lengths.length] ?? 0, id)
      expect([id, sent.equals(value)]).toEqual([id, true])
    }
  })

  it('fails only the calls with an unknown function or pool, a bad number, or a timeout', async () => {
    const { error, outcomes } = await talk([
      { groups: [group('nothing', [one(1)]), group('add', [one(2, 1)], { pool: 'mine' })], cancelled: [], ...alone },
      {
        groups: [group('add', [one(3)], { retries: -1 }), group('never', [one(4)], { timeoutMs: 50 })],
        cancelled: [],
        ...alone,
      },
      {
        groups: [group('add', [one(5)], { onError: 9 }), group('throwIt', [one(6, 'null')]), group('add', [one(7, 1)])],
        cancelled: [],
        ...alone,
      },
    ])
    expect(error).toBeUndefined()
    expect(reasons(outcomes)).toEqual([
      'FUNCTION_NOT_FOUND',
      'POOL_NOT_FOUND',
      'BAD_REQUEST',
      'TASK_TIMEOUT',
      'BAD_REQUEST',
      'FUNCTION_ERROR',
      '',
    ])
  })

  it('sends no outcome for cancelled calls, and goes on with the others', async () => {
    const calls = Array.from({ length: 10_000 }, (_, i) => one(i + 1))
    const { error, outcomes } = await talk([
      { groups: [group('never', calls), group('add', [one(10_001, 1)])], cancelled: [], ...alone },
      { groups: [], cancelled: calls.map(({ id }) => id), ...alone },
    ])
    expect(error).toBeUndefined()
    expect(outcomes.map(({ id }) => id)).toEqual([10_001])
    const pool = await answer<GetPoolResponse>((done) => farm.stub.getPool({ pool: '' }, done))
    expect([pool.queued, pool.running]).toEqual([0, 0])
  })

  it.each([
    ['used again', [1, 1]],
    ['lower than the one before', [2, 1]],
    ['zero', [0]],
  ])('ends with INVALID_ARGUMENT if an id is %s, and its calls leave the pool', async (_, ids) => {
    const { error } = await talk([
      {
        groups: [
          group(
            'never',
            ids.map((id) => one(id)),
          ),
        ],
        cancelled: [],
        ...alone,
      },
    ])
    expect([error?.code, error?.details]).toEqual([
      status.INVALID_ARGUMENT,
      expect.stringContaining('it must be larger than'),
    ])
    await until(
      async () => (await answer<GetPoolResponse>((done) => farm.stub.getPool({ pool: '' }, done))).running === 0,
      'nothing of the stream runs',
    )
  })

  it('ends with INVALID_ARGUMENT if a message is not a CallRequest', async () => {
    const identity = (value: Buffer) => value
    const stream = farm.stub.makeBidiStreamRequest('/farpool.v1.PoolService/Call', identity, identity)
    const error = new Promise<ServiceError>((resolve) =>
      stream.on('error', (caught) => resolve(caught as ServiceError)),
    )
    stream.on('data', () => {})
    stream.write(Buffer.from([0x0a, 0x7f]))
    expect((await error).code).toBe(status.INVALID_ARGUMENT)
  })

  it('leaves no call in the pool when its client cancels it', async () => {
    const stream = farm.stub.call()
    stream.on('error', () => {})
    stream.write({
      groups: [
        group(
          'never',
          Array.from({ length: 100 }, (_, i) => one(i + 1)),
        ),
      ],
      cancelled: [],
      ...alone,
    })
    const pool = () => answer<GetPoolResponse>((done) => farm.stub.getPool({ pool: '' }, done))
    await until(async () => (await pool()).running === 2, 'its calls are there')
    stream.cancel()
    await until(async () => {
      const { queued, running } = await pool()
      return queued === 0 && running === 0
    }, 'its calls are gone')
  })
})
