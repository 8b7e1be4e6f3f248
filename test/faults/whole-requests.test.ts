import { existsSync, writeFileSync } from 'node:fs'
import { credentials, type ServiceError, status } from '@grpc/grpc-js'
import { Pool } from 'farpool'
import { afterAll, describe, expect, it } from 'vitest'
import {
  type ApplyResponse,
  type MapResponse,
  OnError,
  PoolServiceClient,
} from '../../proto/gen/farpool/v1/pool_service.js'
import { Status } from '../../proto/gen/google/rpc/status.js'
import { statusToFailure } from '../../wire/failure.js'
import { ServerProcess, temporaryFolder, until } from '../support/server.js'
import { answer, failure, mapRequest, request, values } from '../support/stub.js'

/** What clients of generated stubs send again as a whole: by a retry policy, or by a name. */

const folder = temporaryFolder()
afterAll(() => folder.remove())

const stubOf = (server: ServerProcess) => new PoolServiceClient(server.address, credentials.createInsecure())
/** As gRPC's clients read it: without it, or with UNAVAILABLE, they send a call again. */
const pushback = ({ metadata }: ServiceError) => metadata.get('grpc-retry-pushback-ms')

describe('a map of which some chunks have run when no worker can start any more', () => {
  // Its worker exits between the first, which nothing is lent behind while its kind is unknown, and the second.
  const chunks = [[0], [0], [0]]
  /** A worker that has begun finds the file gone; others do not start. */
  const start = async (name: string) => {
    const file = folder.path(name)
    const initialized = ['--initializer', 'refuseWhile', '--initargs', JSON.stringify([file])]
    const server = await ServerProcess.start(['--processes', '1', '--drain', '100', ...initialized])
    writeFileSync(file, '')
    return server
  }
  const ofMany = { code: status.ABORTED, reason: 'NO_WORKERS', started: undefined }
  const facts = (error: ServiceError) => {
    const [details] = error.metadata.get('grpc-status-details-bin')
    const { reason, started } = statusToFailure(Status.decode(details as Buffer))
    return { code: error.code, reason, started, pushback: pushback(error) }
  }

  it.each([OnError.ON_ERROR_UNSPECIFIED, OnError.ON_ERROR_FAIL_FAST])(
    'is not sent again: on_error %i',
    async (onError) => {
      await using server = await start(`map ${onError}`)
      const stub = stubOf(server)
      const { error } = await failure((done) => stub.map(mapRequest('exitNext', chunks, { onError }), done))
      expect(facts(error)).toEqual({ ...ofMany, pushback: [] })
      stub.close()
    },
  )

  it('is not sent again as an imap that fails fast', async () => {
    await using server = await start('imap')
    const stub = stubOf(server)
    const rpc = stub.iMap({
      ...mapRequest('exitNext', chunks, { onError: OnError.ON_ERROR_FAIL_FAST }),
      ordered: false,
    })
    const error = await new Promise<ServiceError>((resolve) =>
      rpc.on('data', () => {}).on('error', (caught) => resolve(caught as ServiceError)),
    )
    expect(facts(error)).toEqual({ ...ofMany, pushback: [] })
    stub.close()
  })
})

describe('a call that its client has named', () => {
  it.each(['apply', 'map'] as const)('and that was refused may be sent again: %s', async (method) => {
    await using server = await ServerProcess.start(['--processes', '1', '--max-queued', '1'])
    await using pool = new Pool(server.address)
    const stub = stubOf(server)
    const [begun, go] = [folder.path(method), folder.path(`${method} go`)]
    const running = pool.applyAsync('waitFor', [begun, go, 'ran'])
    await until(() => existsSync(begun), 'it runs')
    const waiting = pool.applyAsync('square', [2])
    await until(async () => (await pool.info()).queued === 1, 'the queue is full')
    const requestId = `a ${method} that nobody guesses`
    const send = (done: (error: ServiceError | null, response: ApplyResponse | MapResponse) => void) =>
      method === 'apply'
        ? stub.apply({ ...request('square', 3), requestId }, done)
        : stub.map(mapRequest('square', [[3]], { requestId }), done)
    expect((await failure(send)).failure).toMatchObject({ reason: 'QUEUE_FULL', started: false })
    writeFileSync(go, '')
    expect([await running.get(), await waiting.get()]).toEqual(['ran', 4])
    const response = await answer<ApplyResponse | MapResponse>(send)
    expect('chunks' in response ? values(response.chunks) : values([response.result ?? {}])).toEqual(
      method === 'apply' ? [9] : [[9]],
    )
    stub.close()
  })

  it('is not another one that has as many bytes', async () => {
    await using server = await ServerProcess.start(['--processes', '1'])
    const stub = stubOf(server)
    const requestId = 'a name that nobody guesses'
    const { result } = await answer<ApplyResponse>((done) => stub.apply({ ...request('add', 1, 2), requestId }, done))
    expect(values([result ?? {}])).toEqual([3])
    const other = await failure((done) => stub.apply({ ...request('add', 3, 4), requestId }, done))
    expect(other.failure?.reason).toBe('BAD_REQUEST')
    expect(other.error.details).toContain('request_id names another call')
    stub.close()
  })
})

describe.each([undefined, 'a map that nobody guesses'])(
  'a map whose results no message can carry, named %s',
  (requestId) => {
    it('ends as soon as that is clear', async () => {
      await using server = await ServerProcess.start(['--processes', '1', '--max-message-bytes', '4194304'])
      await using pool = new Pool(server.address)
      const stub = stubOf(server)
      const chunks = Array.from({ length: 10_000 }, () => [1_000_000])
      const large = mapRequest('textOf', chunks, requestId === undefined ? {} : { requestId })
      const { failure: why } = await failure((done) => stub.map(large, done))
      expect(why).toMatchObject({ reason: 'RESULT_TOO_LARGE', started: true })
      await until(async () => {
        const { queued, running } = await pool.info()
        return queued + running === 0
      }, 'nothing of it is left')
      expect((await pool.info()).tasks.succeeded).toBeLessThan(chunks.length / 10)
      stub.close()
    })
  },
)
