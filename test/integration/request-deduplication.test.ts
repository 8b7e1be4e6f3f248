import { existsSync, writeFileSync } from 'node:fs'
import { type ServiceError, status } from '@grpc/grpc-js'
import { describe, expect, it } from 'vitest'
import type { ApplyResponse, MapResponse } from '../../proto/gen/farpool/v1/pool_service.js'
import { linesOf } from '../support/calls.js'
import { type Farm, sharedFarm, startFarm } from '../support/farm.js'
import { until } from '../support/server.js'
import { answer, failure, mapRequest, request, values } from '../support/stub.js'

/** With a request_id, a client of generated stubs may send a request again after it has lost the connection. */

const farm = sharedFarm({ args: ['--processes', '2'] })

type Done = (error: ServiceError | null, response: ApplyResponse | MapResponse) => void
type Send = (stub: Farm['stub'], name: string, args: unknown[], requestId: string, done: Done) => { cancel(): void }

const apply: Send = (stub, name, args, requestId, done) => stub.apply({ ...request(name, ...args), requestId }, done)
/** A map of one item with these arguments. */
const map: Send = (stub, name, args, requestId, done) =>
  stub.map(mapRequest(name, [[args]], { spread: true, requestId }), done)

describe.each<[string, Send, (result: unknown) => unknown]>([
  ['Apply', apply, (result) => result],
  ['Map', map, (result) => [result]],
])('an %s with a request_id', (method, send, expected) => {
  const resultOf = (response: ApplyResponse | MapResponse) =>
    'chunks' in response ? values(response.chunks)[0] : values([response.result ?? {}])[0]

  it('runs once, however often and however late it is sent', async () => {
    const file = farm.fresh()
    const requestId = `the only ${method}`
    const sendOne = () => {
      let cancel = () => {}
      const outcome = new Promise<ApplyResponse | MapResponse | ServiceError>((resolve) => {
        const call = send(farm.stub, 'waitFor', [file, `${file}.go`, 'once'], requestId, (error, response) =>
          resolve(error ?? response),
        )
        cancel = () => call.cancel()
      })
      return { outcome, cancel }
    }
    const lost = sendOne()
    await until(() => linesOf(file) === 1, 'it runs')
    lost.cancel()
    expect(await lost.outcome).toMatchObject({ code: status.CANCELLED })
    const again = [sendOne(), sendOne()]
    const other = await failure((done) => send(farm.stub, 'add', [1], requestId, done))
    expect(other.error.code).toBe(status.INVALID_ARGUMENT)
    expect(other.error.details).toContain('request_id names another call')
    writeFileSync(`${file}.go`, '')
    const outcomes = [...(await Promise.all(again.map(({ outcome }) => outcome))), await sendOne().outcome]
    expect(outcomes.map((outcome) => 'code' in outcome || resultOf(outcome))).toEqual(Array(3).fill(expected('once')))
    expect(linesOf(file)).toBe(1)
  })

  it('runs when it is sent again, if the queue was full at first', async () => {
    await using narrow = await startFarm({ args: ['--processes', '1', '--max-queued', '1'] })
    const { pool, stub } = narrow
    const [begun, go] = [narrow.fresh(), narrow.fresh()]
    const running = pool.applyAsync('waitFor', [begun, go, 'ran'])
    await until(() => existsSync(begun), 'it runs')
    const waiting = pool.applyAsync('square', [2])
    await until(async () => (await pool.info()).queued === 1, 'the queue is full')
    const sendOne = (done: Done) => send(stub, 'square', [3], `a refused ${method}`, done)
    expect((await failure(sendOne)).failure).toMatchObject({ reason: 'QUEUE_FULL', started: false })
    writeFileSync(go, '')
    expect([await running.get(), await waiting.get()]).toEqual(['ran', 4])
    expect(resultOf(await answer<ApplyResponse | MapResponse>(sendOne))).toEqual(expected(9))
  })

  it('is refused if it is another request of as many bytes with the same request_id', async () => {
    const requestId = `a ${method} of some bytes`
    const first = await answer<ApplyResponse | MapResponse>((done) => send(farm.stub, 'add', [1, 2], requestId, done))
    expect(resultOf(first)).toEqual(expected(3))
    const other = await failure((done) => send(farm.stub, 'add', [3, 4], requestId, done))
    expect(other.failure?.reason).toBe('BAD_REQUEST')
    expect(other.error.details).toContain('request_id names another call')
  })
})
