import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { CancelledError, type FarpoolError, Pool, PoolTerminatedError } from 'farpool'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { connectRaw, frame, message } from '../support/raw-call.js'
import { ServerProcess, temporaryFolder, until } from '../support/server.js'

/** Clients that stop in the middle: one that reads no more, an input that yields no more, one that gives everything up. */

let server: ServerProcess
/** Another client, which goes on. */
let other: Pool
let idle: () => Promise<void>

beforeAll(async () => {
  server = await ServerProcess.start(['--processes', '2', '--grace', '200'])
  other = new Pool(server.address)
  idle = () => until(async () => isIdle(await other.info()), 'nothing waits and nothing runs')
})
afterAll(async () => {
  await other.terminate()
  await server[Symbol.asyncDispose]()
})

const isIdle = ({ queued, running }: { queued: number; running: number }) => queued === 0 && running === 0

describe('a reader that stops reading', () => {
  const CALLS = 6_144
  const BYTES = 64 * 1024
  const SUM = CALLS * BYTES

  it.runIf(process.platform === 'linux')(
    'holds back what is sent, not the memory of the server; when it reads on, each outcome comes once',
    async () => {
      await using slow = await ServerProcess.start(['--processes', '2'])
      await using watcher = new Pool(slow.address)
      using connection = connectRaw(slow.address)
      /** What the process has held at most, in bytes. */
      const peak = () => Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${slow.pid}/status`, 'utf8'))?.[1]) * 1024
      await watcher.map('identity', [1, 2])
      const before = peak()
      const { submitted } = (await watcher.info()).tasks
      const call = connection.call()
      call.pause()
      const text = 'x'.repeat(BYTES)
      const send = async () => {
        for (let id = 1; id <= CALLS; id++) {
          call.write(frame(message('identity', { [id]: [text] })))
          await call.drained()
        }
        call.end()
      }
      const sent = send()
      let accepted = 0
      let unchanged = 0
      // Nothing tells that a sender is stuck but that nothing comes while the server has nothing else to do.
      await until(async () => {
        const info = await watcher.info()
        const now = info.tasks.submitted - submitted
        unchanged = isIdle(info) && now > 0 && now === accepted ? unchanged + 1 : 0
        accepted = now
        return unchanged === 100
      }, 'it has done all that it has read, and reads no more')
      expect(accepted).toBeLessThan(CALLS)
      expect(await watcher.apply('add', [1, 2])).toBe(3)
      call.resume()
      await sent
      expect(await call.ended).toEqual({ status: '0', message: 'OK' })
      expect(call.outcomes.map(({ id }) => id).sort((a, b) => a - b)).toEqual(
        Array.from({ length: CALLS }, (_, i) => i + 1),
      )
      expect(call.outcomes.every(({ payload }) => payload?.kind?.value === JSON.stringify(text))).toBe(true)
      expect(peak() - before).toBeLessThan(SUM)
    },
  )
})

describe('a reader that stops reading, of small calls with large results', () => {
  const CALLS = 8_192
  const BYTES = 64 * 1024

  it.runIf(process.platform === 'linux')(
    'holds back its own tasks, not the memory of the server; when it reads on, each outcome comes once',
    async () => {
      await using slow = await ServerProcess.start(['--processes', '2'])
      await using watcher = new Pool(slow.address)
      using connection = connectRaw(slow.address)
      const peak = () => Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${slow.pid}/status`, 'utf8'))?.[1]) * 1024
      await watcher.map('identity', [1, 2])
      const before = peak()
      const call = connection.call()
      call.pause()
      call.write(
        frame(message('textOf', Object.fromEntries(Array.from({ length: CALLS }, (_, i) => [i + 1, [BYTES]])))),
      )
      call.end()
      let queued = 0
      let unchanged = 0
      await until(async () => {
        const info = await watcher.info()
        unchanged = info.running === 0 && info.queued > 0 && info.queued === queued ? unchanged + 1 : 0
        queued = info.queued
        return unchanged === 100
      }, 'what is left waits for its reader')
      expect(await watcher.apply('add', [1, 2])).toBe(3)
      expect(peak() - before).toBeLessThan(0.75 * CALLS * BYTES)
      call.resume()
      expect(await call.ended).toEqual({ status: '0', message: 'OK' })
      expect(call.outcomes.map(({ id }) => id).sort((a, b) => a - b)).toEqual(
        Array.from({ length: CALLS }, (_, i) => i + 1),
      )
    },
  )
})

describe.each(['stream', 'unary'] as const)(
  'an input of imap that never yields its next item, over %s',
  (transport) => {
    let pool: Pool
    beforeEach(async () => {
      pool = new Pool(server.address, { transport })
      return async () => {
        await pool.terminate()
        await idle()
      }
    })

    /** Yields these, then leaves its reader waiting until `late` is called. */
    function stuck(...items: unknown[]) {
      const seen = { pulled: 0, returned: 0, late: (_: IteratorResult<unknown> | Promise<never>) => {} }
      const input: AsyncIterableIterator<unknown> = {
        [Symbol.asyncIterator]: () => input,
        next: () => {
          const value = items[seen.pulled++]
          if (seen.pulled <= items.length) return Promise.resolve({ done: false, value })
          return new Promise((resolve) => {
            seen.late = resolve
          })
        },
        return: () => {
          seen.returned++
          return Promise.resolve({ done: true, value: undefined })
        },
      }
      return { input, seen }
    }

    it.each(['imap', 'imapUnordered'] as const)('%s: results of what was sent come; return() ends it', async (imap) => {
      const { input, seen } = stuck(1, 2, 3)
      const results = pool[imap]('square', input)
      const values = [await results.next(), await results.next(), await results.next()].map(({ value }) => value)
      expect(values.sort()).toEqual([1, 4, 9])
      const waiting = results.next()
      expect(await other.apply('add', [1, 2])).toBe(3)
      expect(await results.return()).toEqual({ done: true, value: undefined })
      expect(await waiting).toEqual({ done: true, value: undefined })
      expect(await results.next()).toEqual({ done: true, value: undefined })
      expect(seen).toMatchObject({ pulled: 4, returned: 1 })
      await pool.close()
      await pool.join()
    })

    it('return() ends what runs and what waits, and pulls and sends nothing that comes later', async () => {
      const { input, seen } = stuck(1, 2, 3, 4, 5, 6)
      const results = pool.imap('never', input)
      await until(async () => (await other.info()).queued === 4, 'all have come')
      const { submitted } = (await other.info()).tasks
      await results.return()
      await idle()
      seen.late({ done: false, value: 7 })
      expect(await pool.apply('add', [1, 2])).toBe(3)
      expect((await other.info()).tasks.submitted).toBe(submitted + 1)
      expect(seen).toMatchObject({ pulled: 7, returned: 1 })
    })

    it('return() in the middle of a chunk sends nothing of it, and pulls no more', async () => {
      const { input, seen } = stuck(1, 2, 3)
      const { submitted } = (await other.info()).tasks
      const results = pool.imap('square', input, { chunksize: 10 })
      await until(() => seen.pulled === 4, 'the input is stuck')
      await results.return()
      seen.late({ done: false, value: 4 })
      expect(await pool.apply('add', [1, 2])).toBe(3)
      expect(seen).toMatchObject({ pulled: 4, returned: 1 })
      expect((await other.info()).tasks.submitted).toBe(submitted + 1)
    })

    it('an input that fails after return() fails for nobody', async () => {
      const { input, seen } = stuck(1)
      const results = pool.imap('square', input)
      expect((await results.next()).value).toBe(1)
      await results.return()
      seen.late(Promise.reject(new Error('too late')))
      expect(await pool.apply('add', [1, 2])).toBe(3)
      expect(await results.next()).toEqual({ done: true, value: undefined })
    })

    it('terminate() fails who waits, at once', async () => {
      const { input, seen } = stuck(1)
      const results = pool.imap('square', input)
      expect((await results.next()).value).toBe(1)
      const waiting = expect(results.next()).rejects.toBeInstanceOf(PoolTerminatedError)
      await pool.terminate()
      await waiting
      expect(seen).toMatchObject({ pulled: 2, returned: 1 })
      expect(await results.next()).toEqual({ done: true, value: undefined })
    })

    it('a generator that is stuck in an await cannot be closed, and holds nobody up', async () => {
      async function* letters() {
        yield 'a'
        await new Promise(() => {})
      }
      for (const end of [(results: AsyncIterator<unknown>) => results.return?.(), () => pool.terminate()]) {
        const results = pool.imap('identity', letters())
        expect((await results.next()).value).toBe('a')
        await end(results)
      }
      expect(await other.apply('add', [1, 2])).toBe(3)
    })
  },
)

describe('10,000 calls that are given up', () => {
  it.each([
    ['each by its own signal, while those before run', true],
    ['by one signal', false],
  ])('%s: each fails once, none stays, others on the stream go on', async (_, each) => {
    await using pool = new Pool(server.address)
    const folder = temporaryFolder()
    const [begun, go] = [folder.path('begun'), folder.path('go')]
    const shared = new AbortController()
    const controllers = Array.from({ length: 10_000 }, () => (each ? new AbortController() : shared))
    const kept = pool.applyAsync('waitFor', [begun, go, 'kept'])
    const given = controllers.map(({ signal }) => pool.apply('never', [], undefined, { signal }))
    const behind = pool.applyAsync('add', [2, 2])
    const ended = Promise.allSettled(given)
    await until(async () => (await other.info()).queued === 10_000, 'all have come')
    for (const controller of controllers) controller.abort()
    const outcomes = await ended
    expect(outcomes.every((outcome) => 'reason' in outcome && outcome.reason instanceof CancelledError)).toBe(true)
    expect(await behind).toBe(4)
    writeFileSync(go, '')
    expect(await kept).toBe('kept')
    await idle()
    expect(await pool.map('add', [1, 2, 3], { chunksize: 1 })).toEqual([1, 2, 3])
    folder.remove()
  })
})

describe('a server that accepts connections and says nothing', () => {
  it('calls of every kind fail, also without a timeout: they have never begun', async () => {
    const mute = createServer((socket) => socket.on('error', () => {}).resume())
    await once(mute.listen(0, '127.0.0.1'), 'listening')
    const address = `127.0.0.1:${(mute.address() as AddressInfo).port}`
    const pools = [{}, { transport: 'unary' as const }, { processes: 1 }].map((options) => new Pool(address, options))
    const calls = pools.flatMap((pool) => [pool.apply('add', [1, 2]), pool.map('square', [1, 2])])
    const errors = await Promise.all(calls.map((call) => call.catch((error: FarpoolError) => error)))
    expect(errors).toMatchObject(Array(6).fill({ reason: 'CONNECTION_FAILED', started: false }))
    await Promise.all(pools.map((pool) => pool.terminate()))
    mute.close()
  })
})
