import { connect } from 'node:http2'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import * as grpc from '@grpc/grpc-js'
import { credentials, loadPackageDefinition, Metadata, type ServiceError, status } from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'
import { service as healthService } from 'grpc-health-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { RemoteError } from '../../proto/gen/farpool/v1/failure.js'
import {
  type ApplyResponse,
  type CallItem,
  type CallRequest,
  type GetPoolResponse,
  type IMapResponse,
  type MapResponse,
  OnError,
  type OpenPoolResponse,
  PoolServiceClient,
  WorkerState,
} from '../../proto/gen/farpool/v1/pool_service.js'
import { Status } from '../../proto/gen/google/rpc/status.js'
import { statusToFailure } from '../../wire/failure.js'
import { isAlive, ServerProcess, until } from '../support/server.js'

/** The contract as a client sees it that has nothing but generated stubs: JSON payloads, statuses, trailers. */

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

const json = (value: unknown) => ({ kind: { $case: 'json' as const, value: JSON.stringify(value) } })
/** A stream without a session. */
const alone = { session: undefined, received: 0, abandon: false, last: false }
const timeouts = { queueTimeoutMs: 0, runTimeoutMs: 0 }
const call = { pool: '', kwargs: undefined, replyKind: 0, retries: 0, ...timeouts, requestId: '' }
const request = (name: string, ...args: unknown[]) => ({ ...call, function: name, args: args.map(json) })
const mapRequest = (name: string, chunks: unknown[][], more = {}) => ({
  ...call,
  function: name,
  chunks: chunks.map(json),
  spread: false,
  args: [],
  onError: OnError.ON_ERROR_UNSPECIFIED,
  ...more,
})

// biome-ignore lint/suspicious/noExplicitAny: the callbacks of ten methods, of which only the error matters here
type AnyCallback = (error: ServiceError | null, response: any) => void
const answer = <T>(send: (done: AnyCallback) => unknown): Promise<T> =>
  new Promise((resolve, reject) => {
    send((error, response: T) => (error ? reject(error) : resolve(response)))
  })
const failure = async (send: (done: AnyCallback) => unknown) => {
  const error = await answer<never>(send).catch((caught: ServiceError) => caught)
  const [details] = error.metadata.get('grpc-status-details-bin')
  return { error, failure: details instanceof Buffer ? statusToFailure(Status.decode(details)) : undefined }
}
const values = (payloads: readonly { kind?: { value: unknown } | undefined }[]) =>
  payloads.map(({ kind }) => JSON.parse(String(kind?.value)))

describe('Apply', () => {
  it('answers JSON with JSON', async () => {
    const { result } = await answer<ApplyResponse>((done) => client.apply(request('add', 1, 2), done))
    expect(result).toEqual(json(3))
  })

  it('passes one raw byte string through', async () => {
    const raw = { kind: { $case: 'raw' as const, value: new Uint8Array([0, 255, 7]) } }
    const { result } = await answer<ApplyResponse>((done) =>
      client.apply({ ...request('identity'), args: [raw] }, done),
    )
    expect(result?.kind?.$case).toBe('raw')
    expect(Buffer.from((result?.kind?.value ?? []) as Uint8Array)).toEqual(Buffer.from([0, 255, 7]))
  })

  it('says why a payload cannot be decoded', async () => {
    const broken = [
      { kind: { $case: 'json' as const, value: '{oops' } },
      { kind: { $case: 'cbor' as const, value: new Uint8Array([0xff]) } },
      { kind: undefined },
    ]
    for (const payload of broken) {
      const { error, failure: why } = await failure((done) =>
        client.apply({ ...request('add'), args: [payload] }, done),
      )
      expect([error.code, why?.reason, why?.started]).toEqual([status.INVALID_ARGUMENT, 'PAYLOAD_DECODE_FAILED', false])
      expect(error.details).toMatch(/^argument 1 cannot be decoded: /)
    }
  })

  it('refuses negative retries, an unknown reply_kind, kwargs that are no object', async () => {
    for (const wrong of [{ retries: -1 }, { replyKind: 9 }, { kwargs: json([1]) }]) {
      const { error, failure: why } = await failure((done) => client.apply({ ...request('add', 1), ...wrong }, done))
      expect([error.code, why?.reason]).toEqual([status.INVALID_ARGUMENT, 'BAD_REQUEST'])
    }
  })

  it('tells an unknown pool from an unknown function', async () => {
    const { error, failure: why } = await failure((done) => client.apply({ ...request('add', 1), pool: 'mine' }, done))
    expect([error.code, why?.reason, error.details]).toEqual([status.NOT_FOUND, 'POOL_NOT_FOUND', 'no pool "mine"'])
  })

  it('keeps the trailers of a failure below 6 KiB, whatever was thrown, and the ErrorInfo whole', async () => {
    for (const what of ['large', 'cause', 'surrogate']) {
      const { error, failure: why } = await failure((done) => client.apply(request('throwIt', what), done))
      const bytes = Object.entries(error.metadata.getMap()).reduce((sum, [key, value]) => {
        return sum + key.length + (Buffer.isBuffer(value) ? Math.ceil(value.length / 3) * 4 : String(value).length) + 32
      }, encodeURI(error.details).length)
      expect(bytes).toBeLessThan(6 * 1024)
      expect(why).toMatchObject({ reason: 'FUNCTION_ERROR', started: true, metadata: { type: expect.any(String) } })
      expect(why?.remote && RemoteError.encode(why.remote).finish().length).toBeGreaterThan(0)
    }
  })

  it('goes on with the next call of the connection after each failure', async () => {
    for (const what of ['large', 'surrogate', 'null', 'hostile']) {
      await failure((done) => client.apply(request('throwIt', what), done))
      expect((await answer<ApplyResponse>((done) => client.apply(request('add', 1, 1), done))).result).toEqual(json(2))
    }
  })

  it('a deadline that passes is DEADLINE_EXCEEDED, and the worker is free again', async () => {
    const deadline = Date.now() + 100
    const { error } = await failure((done) => client.apply(request('spin'), new Metadata(), { deadline }, done))
    expect(error.code).toBe(status.DEADLINE_EXCEEDED)
    const results = await answer<MapResponse>((done) => client.map(mapRequest('square', [[1], [2], [3], [4]]), done))
    expect(values(results.chunks)).toEqual([[1], [4], [9], [16]])
  })

  it('a call that has succeeded does not cost its worker when the stream closes', async () => {
    const workers = async () => (await answer<GetPoolResponse>((done) => client.getPool({ pool: '' }, done))).workers
    const pids = async () => (await workers()).map(({ pid }) => pid).sort()
    await until(
      async () => (await workers()).every(({ state }) => state === WorkerState.WORKER_STATE_IDLE),
      'the worker of the test before has been replaced',
    )
    const before = await pids()
    for (let i = 0; i < 50; i++) await answer((done) => client.apply(request('add', i, 1), done))
    expect(await pids()).toEqual(before)
  })
})

describe('Map', () => {
  it('answers with one payload per chunk, in order', async () => {
    const { chunks } = await answer<MapResponse>((done) => client.map(mapRequest('square', [[1, 2], [], [3]]), done))
    expect(values(chunks)).toEqual([[1, 4], [], [9]])
    expect((await answer<MapResponse>((done) => client.map(mapRequest('square', []), done))).chunks).toEqual([])
  })

  it('spreads items and binds arguments', async () => {
    const spread = mapRequest('collect', [[[1, 2]], [[3]]], {
      spread: true,
      args: [json('bound')],
      kwargs: json({ k: 1 }),
    })
    const { chunks } = await answer<MapResponse>((done) => client.map(spread, done))
    expect(values(chunks)).toEqual([[['bound', 1, 2, { k: 1 }]], [['bound', 3, { k: 1 }]]])
  })

  it('fails with the first failure in the order of the items, with its place', async () => {
    const { error, failure: why } = await failure((done) =>
      client.map(mapRequest('notThirteen', [[1, 2], [3, 13], [13]]), done),
    )
    expect(error.code).toBe(status.UNKNOWN)
    expect(why?.metadata).toMatchObject({ chunk: '1', item: '1', type: 'RangeError' })
  })

  it('ON_ERROR_SETTLE answers with results and failures', async () => {
    const settle = mapRequest('notThirteen', [[12, 13, 14], [13]], { onError: OnError.ON_ERROR_SETTLE })
    const { chunks, failures } = await answer<MapResponse>((done) => client.map(settle, done))
    expect(values(chunks)).toEqual([[12, 14], []])
    expect(failures.map(({ chunk, item }) => [chunk, item])).toEqual([
      [0, 1],
      [1, 0],
    ])
  })

  it('ON_ERROR_FAIL_FAST fails at once', async () => {
    const request = mapRequest('failOrWait', [['fail'], ['/nowhere'], ['/nowhere']], {
      onError: OnError.ON_ERROR_FAIL_FAST,
    })
    const { failure: why } = await failure((done) => client.map(request, done))
    expect(why).toMatchObject({ reason: 'FUNCTION_ERROR', metadata: { chunk: '0', item: '0' } })
  })

  it('refuses a chunk that is no array, items of a starmap that are none, an unknown on_error', async () => {
    const noArray = { ...mapRequest('square', []), chunks: [json(5)] }
    expect((await failure((done) => client.map(noArray, done))).failure).toMatchObject({
      reason: 'BAD_REQUEST',
      metadata: { chunk: '0' },
    })
    const noList = mapRequest('collect', [[5]], { spread: true })
    expect((await failure((done) => client.map(noList, done))).failure).toMatchObject({
      reason: 'BAD_REQUEST',
      metadata: { item: '0' },
    })
    const unknown = mapRequest('square', [[1]], { onError: 7 })
    expect((await failure((done) => client.map(unknown, done))).failure).toMatchObject({ reason: 'BAD_REQUEST' })
  })
})

describe('IMap', () => {
  const collect = async (more: object) => {
    const chunks = Array.from({ length: 100 }, (_, i) => [i])
    const outcomes = []
    for await (const frame of client.iMap({ ...mapRequest('notThirteen', chunks), ordered: false, ...more })) {
      outcomes.push(...(frame as IMapResponse).outcomes)
    }
    return outcomes
  }

  it('ordered: one outcome per chunk, in order, a failed item in its place', async () => {
    const outcomes = await collect({ ordered: true })
    expect(outcomes.map(({ chunk }) => chunk)).toEqual(Array.from({ length: 100 }, (_, i) => i))
    expect(outcomes[12]).toMatchObject({ payload: json([12]), failures: [] })
    expect(outcomes[13]).toMatchObject({
      payload: json([]),
      failures: [{ chunk: 13, item: 0, status: { code: status.UNKNOWN } }],
    })
  })

  it('unordered: one outcome per chunk', async () => {
    const outcomes = await collect({ ordered: false })
    expect(outcomes.map(({ chunk }) => chunk).sort((a, b) => a - b)).toEqual(Array.from({ length: 100 }, (_, i) => i))
  })
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

describe('OpenPool', () => {
  it('is a lease: the pool lives as long as the stream', async () => {
    const lease = client.openPool({ processes: 2, initializer: '', initargs: [], maxtasksperchild: undefined })
    lease.on('error', () => {})
    const { event } = await new Promise<OpenPoolResponse>((resolve) => lease.once('data', resolve))
    if (event?.$case !== 'opened') return expect.fail('the first event is opened')
    const { pool, processes } = event.value
    expect(processes).toBe(2)
    const { result } = await answer<ApplyResponse>((done) => client.apply({ ...request('pid'), pool }, done))
    const pid = Number(result?.kind?.value)
    lease.cancel()
    await until(() => !isAlive(pid), 'its worker is gone')
    const { failure: why } = await failure((done) => client.apply({ ...request('pid'), pool }, done))
    expect(why?.reason).toMatch(/^POOL_(CLOSED|NOT_FOUND)$/)
  })

  it('Terminate fails what is in flight with ABORTED / POOL_TERMINATED and ends the stream', async () => {
    const lease = client.openPool({ processes: 1, initializer: '', initargs: [], maxtasksperchild: undefined })
    const events: string[] = []
    const ended = new Promise((resolve) => lease.once('end', resolve))
    const { event } = await new Promise<OpenPoolResponse>((resolve) => lease.once('data', resolve))
    lease.on('data', (next: OpenPoolResponse) => events.push(String(next.event?.$case)))
    const pool = event?.$case === 'opened' ? event.value.pool : ''
    const inFlight = failure((done) => client.apply({ ...request('never'), pool }, done))
    await until(
      async () => (await answer<{ running: number }>((done) => client.getPool({ pool }, done))).running === 1,
      'it runs',
    )
    await answer((done) => client.terminate({ pool }, done))
    await answer((done) => client.joinPool({ pool }, done)).catch(() => {})
    const { error, failure: why } = await inFlight
    expect([error.code, why?.reason]).toEqual([status.ABORTED, 'POOL_TERMINATED'])
    await ended
    expect(events).toEqual(['workerExited', 'closed'])
  })

  it('a shared pool refuses Terminate and Close, unless the server allows it', async () => {
    for (const send of [
      (done: AnyCallback) => client.terminate({ pool: '' }, done),
      (done: AnyCallback) => client.closePool({ pool: 'default' }, done),
    ]) {
      const { error, failure: why } = await failure(send)
      expect([error.code, why?.reason]).toEqual([status.PERMISSION_DENIED, 'PERMISSION_DENIED'])
    }
    await using open = await ServerProcess.start(['--processes', '1', '--allow-terminate'])
    const other = new PoolServiceClient(open.address, credentials.createInsecure())
    await answer((done) => other.terminate({ pool: '' }, done))
    const { failure: why } = await failure((done) => other.apply(request('add', 1), done))
    expect(why?.reason).toBe('POOL_CLOSED')
    other.close()
  })

  it.each([
    { processes: 0 },
    { processes: -1 },
    { processes: 100_000 },
    { maxtasksperchild: 0 },
    { initargs: [json(1)] },
  ])('refuses %j', async (wrong) => {
    const lease = client.openPool({
      processes: 1,
      initializer: '',
      initargs: [],
      maxtasksperchild: undefined,
      ...wrong,
    })
    const error = await new Promise<ServiceError>((resolve) =>
      lease.once('error', (caught) => resolve(caught as ServiceError)),
    )
    expect(error.code).toBe(status.INVALID_ARGUMENT)
  })
})

describe('requests that are no messages', () => {
  it.each(['apply', 'map', 'iMap', 'openPool', 'closePool', 'joinPool', 'terminate', 'getPool'] as const)(
    '%s: wrong types are INVALID_ARGUMENT',
    async (method) => {
      const { path } = (client.constructor as typeof PoolServiceClient).service[method]
      // Field 1 as a string that is longer than the message; field 2 with a group's wire type.
      for (const bytes of [Buffer.from([0x0a, 0x7f, 0x61]), Buffer.from([0x13, 0x14, 0xff, 0xff, 0xff])]) {
        const identity = (value: Buffer) => value
        const error = await new Promise<ServiceError>((resolve) => {
          client
            .makeServerStreamRequest(path, identity, identity, bytes)
            .on('error', resolve as never)
            .on('data', () => {})
        })
        expect([method, error.code, error.details]).toEqual([
          method,
          status.INVALID_ARGUMENT,
          expect.stringContaining('is not a farpool.v1.'),
        ])
      }
    },
  )
})

describe('health and reflection', () => {
  it('Check is SERVING for the server and the service, and an open Watch does not keep a server from ending', async () => {
    await using other = await ServerProcess.start(['--processes', '1'])
    const Health = grpc.makeGenericClientConstructor(healthService, 'Health')
    const health = new Health(other.address, credentials.createInsecure())
    for (const service of ['', 'farpool.v1.PoolService']) {
      const response = await answer<{ status: string }>((done) => health['check']?.({ service }, done))
      expect(response.status).toBe('SERVING')
    }
    const watch = health['watch']?.({ service: '' })
    const seen: string[] = []
    watch.on('data', ({ status: now }: { status: string }) => seen.push(now))
    watch.on('error', () => {})
    await until(() => seen.length === 1, 'the watch has begun')
    other.signal('SIGTERM')
    expect(await other.exited).toBe(0)
    expect(seen).toEqual(['SERVING', 'NOT_SERVING'])
    health.close()
  })

  it('reflection lists the services and describes ours with all imports, as grpcurl asks for them', async () => {
    const root = dirname(createRequire(import.meta.url).resolve('@grpc/reflection/package.json'))
    const definition = loadSync(join(root, 'build/proto/grpc/reflection/v1/reflection.proto'), { bytes: Buffer })
    const { grpc: loaded } = loadPackageDefinition(definition) as unknown as {
      grpc: { reflection: { v1: { ServerReflection: grpc.ServiceClientConstructor } } }
    }
    const reflection = new loaded.reflection.v1.ServerReflection(server.address, credentials.createInsecure())
    const ask = (question: object): Promise<unknown> =>
      new Promise((resolve, reject) => {
        const stream = reflection['ServerReflectionInfo']?.()
        stream.on('data', resolve)
        stream.on('error', reject)
        stream.write(question)
        stream.end()
      })
    const { listServicesResponse } = (await ask({ listServices: '' })) as {
      listServicesResponse: { service: { name: string }[] }
    }
    const names = listServicesResponse.service.map(({ name }) => name)
    expect(names).toEqual(expect.arrayContaining(['farpool.v1.PoolService', 'grpc.health.v1.Health']))
    const { fileDescriptorResponse } = (await ask({ fileContainingSymbol: 'farpool.v1.PoolService' })) as {
      fileDescriptorResponse: { fileDescriptorProto: Buffer[] }
    }
    const files = fileDescriptorResponse.fileDescriptorProto.map(String).join()
    for (const file of [
      'farpool/v1/pool_service.proto',
      'farpool/v1/payload.proto',
      'google/rpc/status.proto',
      'google/protobuf/any.proto',
    ]) {
      expect(files).toContain(file)
    }
    reflection.close()
  })
})

describe('peers that misbehave', () => {
  it('a stream that is reset in the middle of a call leaves nothing running', async () => {
    const session = connect(`http://${server.address}`)
    const stream = session.request({
      ':method': 'POST',
      ':path': '/farpool.v1.PoolService/Apply',
      'content-type': 'application/grpc',
      te: 'trailers',
    })
    stream.on('error', () => {})
    const message = Buffer.from([0x12, 5, ...Buffer.from('never')])
    const head = Buffer.alloc(5)
    head.writeUInt32BE(message.length, 1)
    stream.end(Buffer.concat([head, message]))
    const running = async () =>
      (await answer<{ running: number }>((done) => client.getPool({ pool: '' }, done))).running
    await until(async () => (await running()) === 1, 'it runs')
    stream.close(8)
    await until(async () => (await running()) === 0, 'it has been dropped')
    session.close()
  })
})
