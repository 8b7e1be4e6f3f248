import { writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { CancelledError, Pool } from 'farpool'
import { describe, expect, it } from 'vitest'
import { CallRequest } from '../../proto/gen/farpool/v1/pool_service.js'
import { RESUME_MS } from '../../wire/protocol.js'
import { sharedFarm } from '../support/farm.js'
import { message } from '../support/raw-call.js'
import { RawClient } from '../support/raw-unary.js'
import { ServerProcess, until } from '../support/server.js'
import { makeStub } from '../support/stub.js'

/** More calls than the server starts in one turn of its event loop. */
const MESSAGES = 20
const CALLS = 200

const farm = sharedFarm()

const request = (name: string, from: number): CallRequest =>
  CallRequest.decode(message(name, Object.fromEntries(Array.from({ length: CALLS }, (_, at) => [from + at, ['x']]))))

describe('20 messages of 200 calls each', () => {
  it.each(['identity', 'noSuchFunction'])(
    'have all their outcomes, although the client closed its side after the last (%s)',
    async (name) => {
      const stub = makeStub(farm.address)
      for (let round = 0; round < 5; round++) {
        const stream = stub.call()
        let outcomes = 0
        stream.on('data', (response) => {
          outcomes += response.outcomes.length
        })
        const ended = new Promise((resolve, reject) => stream.on('status', resolve).on('error', reject))
        for (let at = 0; at < MESSAGES; at++) stream.write(request(name, 1 + at * CALLS))
        stream.end()
        await ended
        expect(outcomes).toBe(MESSAGES * CALLS)
      }
      stub.close()
    },
  )

  it('leave the server at once when their pool is terminated', async () => {
    const watching = new Pool(farm.address)
    const pool = new Pool(farm.address)
    await pool.apply('identity', [1])
    const calls = Array.from({ length: MESSAGES * 256 }, () => pool.apply('busyFor', [5]).catch(() => {}))
    await until(async () => (await watching.info()).queued > 0, 'the server has some of them')
    await pool.terminate()
    await Promise.all(calls)
    const from = performance.now()
    await until(async () => {
      const { queued, running } = await watching.info()
      return queued + running === 0
    }, 'nothing is left')
    // A session that waits for its client to resume would keep them longer.
    expect(performance.now() - from).toBeLessThan(RESUME_MS)
    await watching.terminate()
  })
})

describe('a server under a flood of bad calls', () => {
  it('ends when it is told to', async () => {
    await using flooded = await ServerProcess.start(['--processes', '1', '--drain', '20000'])
    const clients = Array.from({ length: 30 }, () => new RawClient(flooded.address))
    let answers = 0
    const again = async (client: RawClient) => {
      while (!client.session.destroyed && !client.session.closed) {
        await client.send({ body: Buffer.alloc(5) })
        answers++
      }
    }
    for (const client of clients) for (let at = 0; at < 200; at++) again(client).catch(() => {})
    await until(() => answers > 1_000, 'they are being answered')
    flooded.signal('SIGTERM')
    expect(await Promise.race([flooded.exited, sleep(15_000, 'it goes on', { ref: false })])).toBe(0)
    for (const client of clients) client[Symbol.dispose]()
  })
})

describe('an imap', () => {
  it('that ended before the client knew its pool sends nothing', async () => {
    await using watching = new Pool(farm.address)
    const { submitted } = (await watching.info()).tasks
    // This client has not asked the server about the pool yet.
    await using pool = new Pool(farm.address)
    const iterator = pool.imap('identity', Array(20).keys())
    // The input has been pulled and waits for the answer.
    for (let at = 0; at < 4; at++) await undefined
    await iterator.return()
    // This call comes after any chunk that was sent.
    await pool.apply('identity', [1])
    expect((await watching.info()).tasks.submitted).toBe(submitted + 1)
  })
})

describe('10,000 cancelled calls', () => {
  const farm = sharedFarm({ args: ['--processes', '2', '--grace', '200'] })

  it.each([
    ['each has its own signal', true],
    ['all share one signal', false],
  ])('fail once each and leave the pool, and other calls of the stream go on: %s', async (_, each) => {
    await using pool = new Pool(farm.address)
    const [begun, go] = [farm.fresh(), farm.fresh()]
    const shared = new AbortController()
    const controllers = Array.from({ length: 10_000 }, () => (each ? new AbortController() : shared))
    const kept = pool.applyAsync('waitFor', [begun, go, 'kept'])
    const given = controllers.map(({ signal }) => pool.apply('never', [], undefined, { signal }))
    const behind = pool.applyAsync('add', [2, 2])
    const ended = Promise.allSettled(given)
    await until(async () => (await farm.pool.info()).queued === 10_000, 'all have come')
    for (const controller of controllers) controller.abort()
    const outcomes = await ended
    expect(outcomes.every((outcome) => 'reason' in outcome && outcome.reason instanceof CancelledError)).toBe(true)
    expect(await behind).toBe(4)
    writeFileSync(go, '')
    expect(await kept).toBe('kept')
    await until(async () => {
      const { queued, running } = await farm.pool.info()
      return queued + running === 0
    }, 'nothing waits and nothing runs')
    expect(await pool.map('add', [1, 2, 3], { chunksize: 1 })).toEqual([1, 2, 3])
  })
})
