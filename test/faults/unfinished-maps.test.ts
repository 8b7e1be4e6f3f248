import { writeFileSync } from 'node:fs'
import { type ServiceError, status } from '@grpc/grpc-js'
import { afterAll, describe, expect, it } from 'vitest'
import { OnError } from '../../proto/gen/farpool/v1/pool_service.js'
import { Status } from '../../proto/gen/google/rpc/status.js'
import { statusToFailure } from '../../wire/failure.js'
import { startFarm } from '../support/farm.js'
import { temporaryFolder, until } from '../support/server.js'
import { failure, mapRequest } from '../support/stub.js'

/** Maps of generated stubs that fail before all chunks have run. */

const folder = temporaryFolder()
afterAll(() => folder.remove())

/** The header that keeps gRPC clients from sending a failed call again; they also try again after UNAVAILABLE. */
const pushback = ({ metadata }: ServiceError) => metadata.get('grpc-retry-pushback-ms')

describe('a map, if some chunks have run and then no worker can start,', () => {
  // The worker exits after the first chunk. Nothing is prefetched behind it, because its duration is not known yet.
  const chunks = [[0], [0], [0]]
  /** The first worker starts without the file; then the file exists, and no other worker can start. */
  const start = async (name: string) => {
    const file = folder.path(name)
    const initialized = ['--initializer', 'refuseWhile', '--initargs', JSON.stringify([file])]
    const farm = await startFarm({ args: ['--processes', '1', '--drain', '100', ...initialized] })
    writeFileSync(file, '')
    return farm
  }
  const ofMany = { code: status.ABORTED, reason: 'NO_WORKERS', started: undefined }
  const facts = (error: ServiceError) => {
    const [details] = error.metadata.get('grpc-status-details-bin')
    const { reason, started } = statusToFailure(Status.decode(details as Buffer))
    return { code: error.code, reason, started, pushback: pushback(error) }
  }

  it.each([OnError.ON_ERROR_UNSPECIFIED, OnError.ON_ERROR_FAIL_FAST])(
    'fails with a status after which clients do not try again (on_error %i)',
    async (onError) => {
      await using farm = await start(`map ${onError}`)
      const { stub } = farm
      const { error } = await failure((done) => stub.map(mapRequest('exitNext', chunks, { onError }), done))
      expect(facts(error)).toEqual({ ...ofMany, pushback: [] })
    },
  )

  it('fails with such a status as an imap that fails fast', async () => {
    await using farm = await start('imap')
    const { stub } = farm
    const rpc = stub.iMap({
      ...mapRequest('exitNext', chunks, { onError: OnError.ON_ERROR_FAIL_FAST }),
      ordered: false,
    })
    const error = await new Promise<ServiceError>((resolve) =>
      rpc.on('data', () => {}).on('error', (caught) => resolve(caught as ServiceError)),
    )
    expect(facts(error)).toEqual({ ...ofMany, pushback: [] })
  })
})

describe.each([undefined, 'a map that nobody guesses'])(
  'a map whose results are larger than a message, with the request_id %s,',
  (requestId) => {
    it('fails before all chunks have run', async () => {
      await using farm = await startFarm({ args: ['--processes', '1', '--max-message-bytes', '4194304'] })
      const { pool, stub } = farm
      const chunks = Array.from({ length: 10_000 }, () => [1_000_000])
      const large = mapRequest('textOf', chunks, requestId === undefined ? {} : { requestId })
      const { failure: why } = await failure((done) => stub.map(large, done))
      expect(why).toMatchObject({ reason: 'RESULT_TOO_LARGE', started: true })
      await until(async () => {
        const { queued, running } = await pool.info()
        return queued + running === 0
      }, 'nothing of it is left')
      expect((await pool.info()).tasks.succeeded).toBeLessThan(chunks.length / 10)
    })
  },
)
