import { credentials, type ServiceError, status } from '@grpc/grpc-js'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  type ApplyResponse,
  type OpenPoolResponse,
  PoolServiceClient,
} from '../../proto/gen/farpool/v1/pool_service.js'
import { isAlive, ServerProcess, until } from '../support/server.js'
import { type AnyCallback, answer, failure, json, request } from '../support/stub.js'

/** Pools of its own, as a client sees them that has nothing but generated stubs. */

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
