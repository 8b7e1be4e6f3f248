import { credentials, type ServiceError, status } from '@grpc/grpc-js'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  type CallItem,
  type CallRequest,
  type GetPoolResponse,
  PoolServiceClient,
} from '../../proto/gen/farpool/v1/pool_service.js'
import type { Status } from '../../proto/gen/google/rpc/status.js'
import { statusToFailure } from '../../wire/failure.js'
import { ServerProcess, until } from '../support/server.js'
import { alone, answer, json, mapRequest } from '../support/stub.js'

/** The stream of calls, as a client sees it that has nothing but generated stubs. */

let server: ServerProcess
let client: PoolServiceClient

beforeAll(async () => {
  server = await ServerProcess.start(['--processes', '2', '--grace', '200'])
  client = new PoolServiceClient(server.address, credentials.createInsecure())
})
afterAll(async () => {
  client.close()
  await server[Symbol.asyncDispose]()
})

describe('Call', () => {
  type Outcomes = { id: number; payload: unknown; failures: { status?: Status | undefined }[] }[]

  /** Writes messages, closes, and gives what came back: outcomes by id, and the error that ended the stream. */
  const talk = async (messages: CallRequest[]) => {
    const stream = client.call()
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
  const group = (name: string, calls: CallItem[], more = {}) => ({
    ...mapRequest(name, []),
    timeoutMs: 0,
    calls,
    ...more,
  })
  const one = (id: number, ...args: unknown[]): CallItem => ({ id, args: args.map(json), chunk: undefined })
  const reasons = (outcomes: Outcomes) =>
    outcomes.map(({ failures }) => failures.map(({ status }) => status && statusToFailure(status).reason).join())

  it('answers every call once, applies and chunks alike, and what it has after the client has closed', async () => {
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

  it('fails calls each by itself: unknown functions and pools, bad numbers, timeouts', async () => {
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

  it('forgets calls that are cancelled; the others go on, and so does the pool', async () => {
    const calls = Array.from({ length: 10_000 }, (_, i) => one(i + 1))
    const { error, outcomes } = await talk([
      { groups: [group('never', calls), group('add', [one(10_001, 1)])], cancelled: [], ...alone },
      { groups: [], cancelled: calls.map(({ id }) => id), ...alone },
    ])
    expect(error).toBeUndefined()
    expect(outcomes.map(({ id }) => id)).toEqual([10_001])
    const pool = await answer<GetPoolResponse>((done) => client.getPool({ pool: '' }, done))
    expect([pool.queued, pool.running]).toEqual([0, 0])
  })

  it.each([
    ['used again', [1, 1]],
    ['going down', [2, 1]],
    ['zero', [0]],
  ])('refuses ids %s, and drops what the stream had', async (_, ids) => {
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
      async () => (await answer<GetPoolResponse>((done) => client.getPool({ pool: '' }, done))).running === 0,
      'nothing of the stream runs',
    )
  })

  it('refuses messages that are none', async () => {
    const identity = (value: Buffer) => value
    const stream = client.makeBidiStreamRequest('/farpool.v1.PoolService/Call', identity, identity)
    const error = new Promise<ServiceError>((resolve) =>
      stream.on('error', (caught) => resolve(caught as ServiceError)),
    )
    stream.on('data', () => {})
    stream.write(Buffer.from([0x0a, 0x7f]))
    expect((await error).code).toBe(status.INVALID_ARGUMENT)
  })

  it('that is cut in the middle leaves nothing behind', async () => {
    const stream = client.call()
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
    const pool = () => answer<GetPoolResponse>((done) => client.getPool({ pool: '' }, done))
    await until(async () => (await pool()).running === 2, 'its calls are there')
    stream.cancel()
    await until(async () => {
      const { queued, running } = await pool()
      return queued === 0 && running === 0
    }, 'its calls are gone')
  })

  it('whose client stops reading holds the server back, not its memory', async () => {
    const stream = client.call()
    const seen = new Set<number>()
    stream.on('error', () => {})
    stream.pause()
    const bytes = 'x'.repeat(1_000_000)
    for (let id = 1; id <= 150; id++)
      stream.write({ groups: [group('identity', [one(id, bytes)])], cancelled: [], ...alone })
    stream.end()
    const submitted = async () =>
      (await answer<GetPoolResponse>((done) => client.getPool({ pool: '' }, done))).tasks?.submitted ?? 0
    const before = await submitted()
    await until(async () => (await submitted()) > before + 20, 'calls come in')
    expect((await submitted()) - before).toBeLessThan(150)
    stream.on('data', ({ outcomes }: { outcomes: Outcomes }) => {
      for (const { id } of outcomes) seen.add(id)
    })
    const ended = new Promise((resolve) => stream.once('end', resolve))
    stream.resume()
    await ended
    expect(seen.size).toBe(150)
  })
})
