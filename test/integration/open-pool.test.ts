import { type ServiceError, status } from '@grpc/grpc-js'
import { describe, expect, it } from 'vitest'
import type { ApplyResponse, OpenPoolResponse } from '../../proto/gen/farpool/v1/pool_service.js'
import { sharedFarm, startFarm } from '../support/farm.js'
import { isAlive, until } from '../support/server.js'
import { type AnyCallback, answer, failure, json, request } from '../support/stub.js'

/** Owned pools, from a client of nothing but generated stubs. */

const farm = sharedFarm({ args: ['--processes', '2', '--grace', '200'] })
const OPEN = { sharedPool: '', processes: 1, initializer: '', initargs: [], maxtasksperchild: undefined }

describe('OpenPool', () => {
  it('opens a pool that lives as long as its stream', async () => {
    const lease = farm.stub.openPool({ ...OPEN, processes: 2 })
    lease.on('error', () => {})
    const { event } = await new Promise<OpenPoolResponse>((resolve) => lease.once('data', resolve))
    if (event?.$case !== 'opened') return expect.fail('the first event is opened')
    const { pool, processes } = event.value
    expect(processes).toBe(2)
    const { result } = await answer<ApplyResponse>((done) => farm.stub.apply({ ...request('pid'), pool }, done))
    const pid = Number(result?.kind?.value)
    lease.cancel()
    await until(() => !isAlive(pid), 'its worker is gone')
    const { failure: why } = await failure((done) => farm.stub.apply({ ...request('pid'), pool }, done))
    expect(why?.reason).toMatch(/^POOL_(CLOSED|NOT_FOUND)$/)
  })

  it('ends its stream after Terminate, which fails running calls with POOL_TERMINATED', async () => {
    const lease = farm.stub.openPool(OPEN)
    const events: string[] = []
    const ended = new Promise((resolve) => lease.once('end', resolve))
    const { event } = await new Promise<OpenPoolResponse>((resolve) => lease.once('data', resolve))
    lease.on('data', (next: OpenPoolResponse) => events.push(String(next.event?.$case)))
    const pool = event?.$case === 'opened' ? event.value.pool : ''
    const inFlight = failure((done) => farm.stub.apply({ ...request('never'), pool }, done))
    await until(
      async () => (await answer<{ running: number }>((done) => farm.stub.getPool({ pool }, done))).running === 1,
      'it runs',
    )
    await answer((done) => farm.stub.terminate({ pool }, done))
    await answer((done) => farm.stub.joinPool({ pool }, done)).catch(() => {})
    const { error, failure: why } = await inFlight
    expect([error.code, why?.reason]).toEqual([status.ABORTED, 'POOL_TERMINATED'])
    await ended
    expect(events).toEqual(['workerExited', 'closed'])
  })

  it('is the only way to a pool that Terminate and ClosePool may end, without --allow-terminate', async () => {
    for (const send of [
      (done: AnyCallback) => farm.stub.terminate({ pool: '' }, done),
      (done: AnyCallback) => farm.stub.closePool({ pool: 'default' }, done),
    ]) {
      const { error, failure: why } = await failure(send)
      expect([error.code, why?.reason]).toEqual([status.PERMISSION_DENIED, 'PERMISSION_DENIED'])
    }
    await using open = await startFarm({ args: ['--processes', '1', '--allow-terminate'] })
    const { stub: other } = open
    await answer((done) => other.terminate({ pool: '' }, done))
    const { failure: why } = await failure((done) => other.apply(request('add', 1), done))
    expect(why?.reason).toBe('POOL_CLOSED')
  })

  it.each([
    { processes: 0 },
    { processes: -1 },
    { processes: 100_000 },
    { maxtasksperchild: 0 },
    { initargs: [json(1)] },
  ])('refuses %j', async (wrong) => {
    const lease = farm.stub.openPool({ ...OPEN, ...wrong })
    const error = await new Promise<ServiceError>((resolve) =>
      lease.once('error', (caught) => resolve(caught as ServiceError)),
    )
    expect(error.code).toBe(status.INVALID_ARGUMENT)
  })

  it('names the argument of initargs that cannot be decoded', async () => {
    const initargs = [json(1), { kind: { $case: 'json' as const, value: '[' } }]
    const lease = farm.stub.openPool({
      sharedPool: '',
      processes: 1,
      initializer: 'initialize',
      initargs,
      maxtasksperchild: undefined,
    })
    const error = await new Promise<ServiceError>((resolve) =>
      lease.once('error', (caught) => resolve(caught as ServiceError)),
    )
    expect(error.details).toContain('argument 2 of initargs cannot be decoded')
  })
})
