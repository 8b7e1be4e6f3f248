import { describe, expect, it } from 'vitest'
import type { GetPoolResponse } from '../../proto/gen/farpool/v1/pool_service.js'
import type { Status } from '../../proto/gen/google/rpc/status.js'
import { sharedFarm } from '../support/farm.js'
import { until } from '../support/server.js'
import { alone, answer, group, one } from '../support/stub.js'

/** The RPC Call, from a client of generated stubs that does not read. */

const farm = sharedFarm({ args: ['--processes', '2', '--grace', '200'] })

describe('Call', () => {
  type Outcomes = { id: number; payload: unknown; failures: { status?: Status | undefined }[] }[]

  it('accepts no more calls while its client does not read outcomes', async () => {
    const stream = farm.stub.call()
    const seen = new Set<number>()
    stream.on('error', () => {})
    stream.pause()
    const bytes = 'x'.repeat(1_000_000)
    for (let id = 1; id <= 150; id++)
      stream.write({ groups: [group('identity', [one(id, bytes)])], cancelled: [], ...alone })
    stream.end()
    const submitted = async () =>
      (await answer<GetPoolResponse>((done) => farm.stub.getPool({ pool: '' }, done))).tasks?.submitted ?? 0
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
