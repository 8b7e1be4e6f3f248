import { connect } from 'node:http2'
import { Metadata, type ServiceError, status } from '@grpc/grpc-js'
import { describe, expect, it } from 'vitest'
import { RemoteError } from '../../proto/gen/farpool/routing/v1/routing.js'
import {
  type ApplyResponse,
  type GetPoolResponse,
  type IMapResponse,
  type MapResponse,
  OnError,
  WorkerState,
} from '../../proto/gen/farpool/v1/pool_service.js'
import { RPC_METHODS } from '../../wire/rpc-methods.js'
import { sharedFarm } from '../support/farm.js'
import { until } from '../support/server.js'
import { answer, failure, json, mapRequest, request, values } from '../support/stub.js'

/** The unary RPCs and IMap, from a client of nothing but generated stubs: JSON payloads, statuses, trailers. */

const farm = sharedFarm({ args: ['--processes', '2', '--grace', '200'] })

describe('Apply', () => {
  it('answers JSON with JSON', async () => {
    const { result } = await answer<ApplyResponse>((done) => farm.stub.apply(request('add', 1, 2), done))
    expect(result).toEqual(json(3))
  })

  it('passes raw bytes through', async () => {
    const raw = { kind: { $case: 'raw' as const, value: new Uint8Array([0, 255, 7]) } }
    const { result } = await answer<ApplyResponse>((done) =>
      farm.stub.apply({ ...request('identity'), args: [raw] }, done),
    )
    expect(result?.kind?.$case).toBe('raw')
    expect(Buffer.from((result?.kind?.value ?? []) as Uint8Array)).toEqual(Buffer.from([0, 255, 7]))
  })

  it('fails with PAYLOAD_DECODE_FAILED and the place of a bad payload', async () => {
    const broken = [
      { kind: { $case: 'json' as const, value: '{oops' } },
      { kind: { $case: 'cbor' as const, value: new Uint8Array([0xff]) } },
      { kind: undefined },
    ]
    for (const payload of broken) {
      const { error, failure: why } = await failure((done) =>
        farm.stub.apply({ ...request('add'), args: [payload] }, done),
      )
      expect([error.code, why?.reason, why?.started]).toEqual([status.INVALID_ARGUMENT, 'PAYLOAD_DECODE_FAILED', false])
      expect(error.details).toMatch(/^argument 1 cannot be decoded: /)
    }
  })

  it('refuses negative retries, an unknown reply_kind, and kwargs that are not an object', async () => {
    for (const wrong of [{ retries: -1 }, { replyKind: 9 }, { kwargs: json([1]) }]) {
      const { error, failure: why } = await failure((done) => farm.stub.apply({ ...request('add', 1), ...wrong }, done))
      expect([error.code, why?.reason]).toEqual([status.INVALID_ARGUMENT, 'BAD_REQUEST'])
    }
  })

  it('fails with POOL_NOT_FOUND if the pool is unknown', async () => {
    const { error, failure: why } = await failure((done) =>
      farm.stub.apply({ ...request('add', 1), pool: 'mine' }, done),
    )
    const message = 'no pool "mine"; shared pools: default'
    expect([error.code, why?.reason, error.details]).toEqual([status.NOT_FOUND, 'POOL_NOT_FOUND', message])
  })

  it('keeps the trailers of a failure below 6 KiB, with a complete ErrorInfo', async () => {
    for (const what of ['large', 'cause', 'surrogate']) {
      const { error, failure: why } = await failure((done) => farm.stub.apply(request('throwIt', what), done))
      const bytes = Object.entries(error.metadata.getMap()).reduce((sum, [key, value]) => {
        return sum + key.length + (Buffer.isBuffer(value) ? Math.ceil(value.length / 3) * 4 : String(value).length) + 32
      }, encodeURI(error.details).length)
      expect(bytes).toBeLessThan(6 * 1024)
      expect(why).toMatchObject({ reason: 'FUNCTION_ERROR', started: true, metadata: { type: expect.any(String) } })
      expect(why?.remote && RemoteError.encode(why.remote).finish().length).toBeGreaterThan(0)
    }
  })

  it('answers the next call of the connection after each failure', async () => {
    for (const what of ['large', 'surrogate', 'null', 'hostile']) {
      await failure((done) => farm.stub.apply(request('throwIt', what), done))
      expect((await answer<ApplyResponse>((done) => farm.stub.apply(request('add', 1, 1), done))).result).toEqual(
        json(2),
      )
    }
  })

  it('fails with DEADLINE_EXCEEDED, and the worker is free again', async () => {
    const deadline = Date.now() + 100
    const { error } = await failure((done) => farm.stub.apply(request('spin'), new Metadata(), { deadline }, done))
    expect(error.code).toBe(status.DEADLINE_EXCEEDED)
    const results = await answer<MapResponse>((done) => farm.stub.map(mapRequest('square', [[1], [2], [3], [4]]), done))
    expect(values(results.chunks)).toEqual([[1], [4], [9], [16]])
  })

  it('does not kill the worker of a successful call when its stream closes', async () => {
    const workers = async () => (await answer<GetPoolResponse>((done) => farm.stub.getPool({ pool: '' }, done))).workers
    const pids = async () => (await workers()).map(({ pid }) => pid).sort()
    await until(
      async () => (await workers()).every(({ state }) => state === WorkerState.WORKER_STATE_IDLE),
      'the worker of the test before has been replaced',
    )
    const before = await pids()
    for (let i = 0; i < 50; i++) await answer((done) => farm.stub.apply(request('add', i, 1), done))
    expect(await pids()).toEqual(before)
  })
})

describe('Map', () => {
  it('answers with one payload per chunk, in order', async () => {
    const { chunks } = await answer<MapResponse>((done) => farm.stub.map(mapRequest('square', [[1, 2], [], [3]]), done))
    expect(values(chunks)).toEqual([[1, 4], [], [9]])
    expect((await answer<MapResponse>((done) => farm.stub.map(mapRequest('square', []), done))).chunks).toEqual([])
  })

  it('spreads items, and adds bound arguments', async () => {
    const spread = mapRequest('collect', [[[1, 2]], [[3]]], {
      spread: true,
      args: [json('bound')],
      kwargs: json({ k: 1 }),
    })
    const { chunks } = await answer<MapResponse>((done) => farm.stub.map(spread, done))
    expect(values(chunks)).toEqual([[['bound', 1, 2, { k: 1 }]], [['bound', 3, { k: 1 }]]])
  })

  it('fails with the failure of the first failed item, and its chunk and index', async () => {
    const { error, failure: why } = await failure((done) =>
      farm.stub.map(mapRequest('notThirteen', [[1, 2], [3, 13], [13]]), done),
    )
    expect(error.code).toBe(status.UNKNOWN)
    expect(why?.metadata).toMatchObject({ chunk: '1', item: '1', type: 'RangeError' })
  })

  it('answers with results and failures for ON_ERROR_SETTLE', async () => {
    const settle = mapRequest('notThirteen', [[12, 13, 14], [13]], { onError: OnError.ON_ERROR_SETTLE })
    const { chunks, failures } = await answer<MapResponse>((done) => farm.stub.map(settle, done))
    expect(values(chunks)).toEqual([[12, 14], []])
    expect(failures.map(({ chunk, item }) => [chunk, item])).toEqual([
      [0, 1],
      [1, 0],
    ])
  })

  it('fails at once for ON_ERROR_FAIL_FAST', async () => {
    const request = mapRequest('failOrWait', [['fail'], ['/nowhere'], ['/nowhere']], {
      onError: OnError.ON_ERROR_FAIL_FAST,
    })
    const { failure: why } = await failure((done) => farm.stub.map(request, done))
    expect(why).toMatchObject({ reason: 'FUNCTION_ERROR', metadata: { chunk: '0', item: '0' } })
  })

  it('refuses a chunk or a starmap item that is not an array, and an unknown on_error', async () => {
    const noArray = { ...mapRequest('square', []), chunks: [json(5)] }
    expect((await failure((done) => farm.stub.map(noArray, done))).failure).toMatchObject({
      reason: 'BAD_REQUEST',
      message: 'a chunk holds 5; it must hold an array of items',
      metadata: { chunk: '0' },
    })
    const noList = mapRequest('collect', [[5]], { spread: true })
    expect((await failure((done) => farm.stub.map(noList, done))).failure).toMatchObject({
      reason: 'BAD_REQUEST',
      metadata: { item: '0' },
    })
    const unknown = mapRequest('square', [[1]], { onError: 7 })
    expect((await failure((done) => farm.stub.map(unknown, done))).failure).toMatchObject({ reason: 'BAD_REQUEST' })
  })
})

describe('IMap', () => {
  const collect = async (more: object) => {
    const chunks = Array.from({ length: 100 }, (_, i) => [i])
    const outcomes = []
    for await (const frame of farm.stub.iMap({ ...mapRequest('notThirteen', chunks), ordered: false, ...more })) {
      outcomes.push(...(frame as IMapResponse).outcomes)
    }
    return outcomes
  }

  it('sends one outcome per chunk, in order, with failed items, if ordered', async () => {
    const outcomes = await collect({ ordered: true })
    expect(outcomes.map(({ chunk }) => chunk)).toEqual(Array.from({ length: 100 }, (_, i) => i))
    expect(outcomes[12]).toMatchObject({ payload: json([12]), failures: [] })
    expect(outcomes[13]).toMatchObject({
      payload: json([]),
      failures: [{ chunk: 13, item: 0, status: { code: status.UNKNOWN } }],
    })
  })

  it('sends one outcome per chunk if unordered', async () => {
    const outcomes = await collect({ ordered: false })
    expect(outcomes.map(({ chunk }) => chunk).sort((a, b) => a - b)).toEqual(Array.from({ length: 100 }, (_, i) => i))
  })
})

describe('a request that is not a message of its RPC', () => {
  it.each(['apply', 'map', 'iMap', 'openPool', 'closePool', 'joinPool', 'terminate', 'getPool'] as const)(
    'fails with INVALID_ARGUMENT: %s',
    async (method) => {
      const { path } = RPC_METHODS[method]
      // Field 1 as a string that is longer than the message; field 2 with a group's wire type.
      for (const bytes of [Buffer.from([0x0a, 0x7f, 0x61]), Buffer.from([0x13, 0x14, 0xff, 0xff, 0xff])]) {
        const identity = (value: Buffer) => value
        const error = await new Promise<ServiceError>((resolve) => {
          farm.stub
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

describe('a client that resets its stream', () => {
  it('leaves no call running', async () => {
    const session = connect(`http://${farm.address}`)
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
      (await answer<{ running: number }>((done) => farm.stub.getPool({ pool: '' }, done))).running
    await until(async () => (await running()) === 1, 'it runs')
    stream.close(8)
    await until(async () => (await running()) === 0, 'it has been dropped')
    session.close()
  })
})
