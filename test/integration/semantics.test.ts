import { once } from 'node:events'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import {
  BadRequestError,
  CancelledError,
  EncodingError,
  InitializerError,
  type Pool,
  PoolClosedError,
  type PoolOptions,
  PoolTerminatedError,
  RemoteError,
  TimeoutError,
  UnknownFunctionError,
  WorkerCrashedError,
} from 'farpool'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { errorOf } from '../support/calls.js'
import { sharedFarm } from '../support/farm.js'
import { isAlive, temporaryFolder, until } from '../support/server.js'

/** One `describe` for each row of docs/reference/semantics.md, with the row's name; test/structure.test.ts checks that. */

const farm = sharedFarm({ args: ['--processes', '2', '--grace', '200'] })

describe.each(['local', 'stream', 'unary'] as const)('over %s', (transport) => {
  let pool: Pool
  let folder: ReturnType<typeof temporaryFolder>
  beforeEach(async () => {
    pool = await open()
    folder = temporaryFolder()
  })
  afterEach(async () => {
    await pool.terminate()
    folder.remove()
  })

  const open = (options: Omit<PoolOptions, 'transport'> = {}) => farm.open(transport, options)

  /** All results of an iterator. An error takes the place of its result. */
  async function drain(results: AsyncIterator<unknown>): Promise<unknown[]> {
    const seen: unknown[] = []
    for (;;) {
      try {
        const step = await results.next()
        if (step.done) return seen
        seen.push(step.value)
      } catch (error) {
        seen.push(error)
      }
    }
  }

  const tasksSubmitted = async () => (await pool.info()).tasks.submitted

  describe('default chunksize of map, starmap', () => {
    it('is ceil(items / (4 × processes)): 17 items on 2 processes are 6 tasks', async () => {
      const before = await tasksSubmitted()
      await pool.map(
        'identity',
        Array.from({ length: 17 }, (_, i) => i),
      )
      expect((await tasksSubmitted()) - before).toBe(Math.ceil(17 / 3))
    })

    it('of imap and imapUnordered is 1: 5 items are 5 tasks', async () => {
      const before = await tasksSubmitted()
      await drain(pool.imap('identity', [1, 2, 3, 4, 5]))
      await drain(pool.imapUnordered('identity', [1, 2, 3, 4, 5]))
      expect((await tasksSubmitted()) - before).toBe(10)
    })
  })

  describe('map, an item fails', () => {
    it('every item still runs, then the failure of the first is thrown, with its index', async () => {
      const file = folder.path('ran')
      const error = await errorOf(pool.map('notThirteen', [1, 2, 13, 4, 13, 6], { chunksize: 2 }))
      expect(error).toBeInstanceOf(RemoteError)
      expect(error).toMatchObject({
        index: 2,
        type: 'RangeError',
        message: '13 is unlucky',
        reason: 'FUNCTION_ERROR',
        code: 'UNKNOWN',
      })
      await errorOf(
        pool.starmap(
          'appendLine',
          [
            [file, 'a'],
            [null, 'b'],
            [file, 'c'],
            [file, 'd'],
          ],
          { chunksize: 2 },
        ),
      )
      expect(readFileSync(file, 'utf8').split('\n').sort().join('')).toBe('acd')
    })

    it('failFast throws the first failure that comes and drops the rest', async () => {
      const items = ['fail', ...Array.from({ length: 20 }, () => folder.path('never'))]
      expect(await errorOf(pool.map('failOrWait', items, { chunksize: 1, failFast: true }))).toMatchObject({
        index: 0,
      })
      await until(async () => {
        const { queued, running } = await pool.info()
        return queued === 0 && running === 0
      }, 'nothing of the map is left')
    })

    it('settle resolves with one outcome for every item', async () => {
      const outcomes = await pool.map('notThirteen', [12, 13, 14], { chunksize: 2, settle: true })
      expect(outcomes).toMatchObject([
        { status: 'fulfilled', value: 12 },
        { status: 'rejected', reason: { name: 'RemoteError', index: 1 } },
        { status: 'fulfilled', value: 14 },
      ])
    })
  })

  describe('imap', () => {
    it.each([1, 2, 5])(
      'hands out results in order; a failure is thrown at its own position and iteration goes on (chunksize %i)',
      async (chunksize) => {
        const seen = await drain(pool.imap('notThirteen', [11, 12, 13, 14, 15], { chunksize }))
        expect(seen).toMatchObject([11, 12, { name: 'RemoteError', index: 2 }, 14, 15])
      },
    )

    it('unordered, hands out each result once, in any order', async () => {
      const items = Array.from({ length: 100 }, (_, i) => i)
      const seen = await drain(pool.imapUnordered('identity', items, { chunksize: 3 }))
      expect(seen.sort((a, b) => Number(a) - Number(b))).toEqual(items)
    })

    it('next(timeout) throws TimeoutError and loses nothing', async () => {
      const go = folder.path('go')
      const results = await open()
      const iterator = results.imap('identity', slowly(go))
      async function* slowly(file: string) {
        await until(() => existsSync(file), 'the test lets the input go')
        yield 'late'
      }
      expect(await errorOf(iterator.next(20))).toBeInstanceOf(TimeoutError)
      writeFileSync(go, '')
      expect(await iterator.next()).toEqual({ done: false, value: 'late' })
      expect(await iterator.next()).toEqual({ done: true, value: undefined })
      await results.terminate()
    })
  })

  describe('chunks() of an imap', () => {
    it.each(['imap', 'imapUnordered'] as const)(
      'yields the results of %s in arrays, one for each chunk',
      async (imap) => {
        const items = Array.from({ length: 100 }, (_, i) => i)
        const seen: unknown[][] = []
        for await (const chunk of pool[imap]('identity', items, { chunksize: 30 }).chunks()) seen.push(chunk)
        if (imap === 'imapUnordered') seen.sort(([a], [b]) => Number(a) - Number(b))
        expect(seen).toEqual([items.slice(0, 30), items.slice(30, 60), items.slice(60, 90), items.slice(90)])
      },
    )

    it('divides a chunk at a failed item, throws its error there, and goes on behind it', async () => {
      const items = [13, 1, 2, 13, 13, 3, 13, 4, 5, 6]
      const seen = await drain(pool.imap('notThirteen', items, { chunksize: 7 }).chunks())
      expect(seen).toMatchObject([{ index: 0 }, [1, 2], { index: 3 }, { index: 4 }, [3], { index: 6 }, [4, 5, 6]])
    })

    it('shares its results with next(): each is handed out once, in the order of the calls', async () => {
      const results = pool.imap('identity', [1, 2, 3, 4, 5, 6, 7], { chunksize: 3 })
      const chunks = results.chunks()
      const steps = [results.next(), chunks.next(), chunks.next(), results.next(), chunks.next(), results.next()]
      const seen = (await Promise.all<IteratorResult<unknown>>(steps)).map(({ value }) => value)
      expect(seen).toEqual([1, [2, 3], [4, 5, 6], 7, undefined, undefined])
    })

    it('ends the imap when its consumer leaves', async () => {
      let closed = false
      function* naturals() {
        try {
          for (let i = 0; ; i++) yield i
        } finally {
          closed = true
        }
      }
      const results = pool.imap('identity', naturals(), { chunksize: 3 })
      for await (const chunk of results.chunks()) {
        expect(chunk).toEqual([0, 1, 2])
        break
      }
      expect(closed).toBe(true)
      expect(await results.next()).toEqual({ done: true, value: undefined })
      expect(await results.chunks().next()).toEqual({ done: true, value: undefined })
    })

    it('has next(timeout), which loses nothing', async () => {
      const go = folder.path('go')
      async function* slowly() {
        await until(() => existsSync(go), 'the test lets the input go')
        yield 'late'
      }
      const chunks = pool.imap('identity', slowly()).chunks()
      expect(await errorOf(chunks.next(20))).toBeInstanceOf(TimeoutError)
      expect(() => chunks.next(-1)).toThrow(BadRequestError)
      writeFileSync(go, '')
      expect(await chunks.next()).toEqual({ done: false, value: ['late'] })
      expect(await chunks.next()).toEqual({ done: true, value: undefined })
    })

    it('counts a chunk as consumed when it is handed out', async () => {
      let pulled = 0
      function* naturals() {
        for (;;) yield pulled++
      }
      const chunks = pool.imap('identity', naturals(), { chunksize: 10 }).chunks()
      for (let first = 0; first < 1_000; first += 10) expect((await chunks.next()).value?.[0]).toBe(first)
      expect(pulled).toBeLessThanOrEqual(1_000 + 1_000)
      await chunks.return()
    })
  })

  describe('imap input', () => {
    it('may be endless: it is pulled only as the window allows, and closed when its consumer leaves', async () => {
      let pulled = 0
      let closed = false
      function* naturals() {
        try {
          for (;;) yield pulled++
        } finally {
          closed = true
        }
      }
      const seen: unknown[] = []
      for await (const value of pool.imap('square', naturals())) {
        seen.push(value)
        if (seen.length === 50) break
      }
      expect(seen).toEqual(Array.from({ length: 50 }, (_, i) => i * i))
      // The window grows to at most the number of consumed results, because these calls are short.
      expect(pulled).toBeLessThanOrEqual(50 + 50)
      expect(closed).toBe(true)
    })

    it('is not pulled further than the window while the consumer does not ask', async () => {
      let pulled = 0
      function* naturals() {
        for (;;) yield pulled++
      }
      const results = pool.imap('square', naturals())
      await results.next()
      // When these calls have ended, so have the calls of all items pulled before.
      await Promise.all(Array.from({ length: 100 }, () => pool.apply('square', [2])))
      expect(pulled).toBeLessThanOrEqual(1 + 16)
      await results.return()
    })

    it('may be asynchronous', async () => {
      async function* letters() {
        yield 'a'
        yield 'b'
      }
      expect(await drain(pool.imap('identity', letters()))).toEqual(['a', 'b'])
    })
  })

  describe('input iterable throws', () => {
    function* three() {
      yield 1
      yield 2
      throw new Error('the source is dry')
    }

    it('at its position in imap; the pool is unharmed', async () => {
      expect(await drain(pool.imap('identity', three()))).toMatchObject([1, 2, { message: 'the source is dry' }])
      expect(await pool.apply('identity', [1])).toBe(1)
    })

    it('from map, before anything has run', async () => {
      const before = await tasksSubmitted()
      expect(await errorOf(pool.map('identity', three()))).toMatchObject({ message: 'the source is dry' })
      expect(await tasksSubmitted()).toBe(before)
    })
  })

  describe('empty iterable', () => {
    it('is [] at once, and the end at once', async () => {
      expect(await pool.map('identity', [])).toEqual([])
      expect(await pool.starmap('identity', [])).toEqual([])
      expect(await drain(pool.imap('identity', []))).toEqual([])
      expect(await drain(pool.imapUnordered('identity', new Set()))).toEqual([])
    })
  })

  describe('AsyncResult.get(timeout)', () => {
    it('throws TimeoutError after it; the task goes on, and get can be called again', async () => {
      const go = folder.path('go')
      const result = pool.applyAsync('waitFor', [folder.path('begun'), go, 'done'])
      expect(await errorOf(result.get(20))).toBeInstanceOf(TimeoutError)
      await result.wait(20)
      expect(result.ready()).toBe(false)
      writeFileSync(go, '')
      expect(await result.get(30_000)).toBe('done')
      expect(await result.get()).toBe('done')
      expect(await result).toBe('done')
    })
  })

  describe('ready(), successful()', () => {
    it('successful() throws before the result is ready, then tells', async () => {
      const go = folder.path('go')
      const result = pool.applyAsync('waitFor', [folder.path('begun'), go, 1])
      expect(result.ready()).toBe(false)
      expect(() => result.successful()).toThrow(BadRequestError)
      writeFileSync(go, '')
      await result.wait()
      expect(result.ready()).toBe(true)
      expect(result.successful()).toBe(true)
      const failing = pool.applyAsync('throwIt', ['cause'])
      await failing.wait()
      expect(failing.successful()).toBe(false)
    })
  })

  describe('callback, errorCallback', () => {
    it('are called exactly once, before get() resolves', async () => {
      const seen: unknown[] = []
      const callback = (value: unknown) => seen.push(['callback', value])
      const errorCallback = (error: unknown) => seen.push(['errorCallback', (error as Error).message])
      await pool.applyAsync('add', [1, 2], undefined, { callback, errorCallback })
      seen.push('got')
      await pool.mapAsync('square', [1, 2], { callback, errorCallback })
      await errorOf(pool.applyAsync('throwIt', ['cause'], undefined, { callback, errorCallback }))
      expect(seen).toEqual([['callback', 3], 'got', ['callback', [1, 4]], ['errorCallback', 'outer']])
    })

    it('one that throws is reported as a warning, and harms neither the call nor the program', async () => {
      const warned = once(process, 'warning')
      const callback = () => {
        throw new Error('a careless callback')
      }
      expect(await pool.applyAsync('add', [1, 2], undefined, { callback })).toBe(3)
      expect((await warned)[0]).toMatchObject({ message: 'a careless callback' })
    })
  })

  describe('close, then apply', () => {
    it('is PoolClosedError at once; accepted work completes', async () => {
      const go = folder.path('go')
      const accepted = pool.applyAsync('waitFor', [folder.path('begun'), go, 'kept'])
      const iterated = pool.imap('identity', [1, 2, 3])
      await pool.close()
      expect(() => pool.applyAsync('add', [1])).toThrow(PoolClosedError)
      expect(() => pool.imap('add', [1])).toThrow(PoolClosedError)
      await expect(pool.apply('add', [1])).rejects.toBeInstanceOf(PoolClosedError)
      await expect(pool.map('add', [1])).rejects.toBeInstanceOf(PoolClosedError)
      writeFileSync(go, '')
      await pool.join()
      expect(await accepted).toBe('kept')
      expect(await drain(iterated)).toEqual([1, 2, 3])
    })

    it('join before close or terminate is an error', async () => {
      await expect(pool.join()).rejects.toMatchObject({ name: 'BadRequestError', reason: 'POOL_NOT_CLOSED' })
    })

    it('join completes an imap of more items than the window that nobody has consumed yet', async () => {
      const items = Array.from({ length: 100 }, (_, i) => i)
      const results = pool.imap('identity', items)
      await pool.close()
      await pool.join()
      expect(await drain(results)).toEqual(items)
    })
  })

  describe('terminate', () => {
    it('fails queued and running work at once, kills the workers of an owned pool, and join resolves', async () => {
      const own = await open({ processes: 1 })
      const workers = (await own.info()).workers.map(({ pid }) => pid)
      const running = own.applyAsync('spin')
      const queued = own.applyAsync('add', [1])
      const iterated = own.imap('identity', [1])
      await until(async () => (await own.info()).running === 1, 'the loop is running')
      await own.terminate()
      await own.join()
      for (const result of [running, queued]) expect(await errorOf(result)).toBeInstanceOf(PoolTerminatedError)
      expect(await drain(iterated)).toMatchObject([{ name: 'PoolTerminatedError' }])
      expect(workers.filter(isAlive)).toEqual([])
      expect(() => own.applyAsync('add', [1])).toThrow(PoolClosedError)
    })

    it.skipIf(transport === 'local')("of a shared pool ends this client's own calls only", async () => {
      const go = folder.path('go')
      const other = await open()
      const theirs = other.applyAsync('waitFor', [folder.path('theirs'), go, 'theirs'])
      const ours = pool.applyAsync('waitFor', [folder.path('ours'), folder.path('never'), 'ours'])
      await until(() => existsSync(folder.path('ours')) && existsSync(folder.path('theirs')), 'both are running')
      await pool.terminate()
      expect(await errorOf(ours)).toBeInstanceOf(PoolTerminatedError)
      writeFileSync(go, '')
      expect(await theirs).toBe('theirs')
      await other.terminate()
    })
  })

  describe('await using', () => {
    it('terminates the pool at the end of the block', async () => {
      let left: Pool
      {
        await using own = await open({ processes: 1 })
        left = own
        expect(await own.apply('add', [1, 2])).toBe(3)
      }
      expect(() => left.applyAsync('add')).toThrow(PoolClosedError)
    })
  })

  describe('initializer fails', () => {
    it('fails the pool with INITIALIZER_FAILED and its reason', async () => {
      const failing = open({ processes: 2, initializer: 'failToInitialize' })
      const error = await errorOf(failing.then((own) => own.apply('add', [1, 2])))
      expect(error).toBeInstanceOf(InitializerError)
      expect(error).toMatchObject({ reason: 'INITIALIZER_FAILED', code: 'FAILED_PRECONDITION' })
      expect((error as Error).message).toContain('no licence')
      if (transport === 'local') return
      const own = await failing
      await until(() => {
        try {
          own.applyAsync('add')
          return false
        } catch {
          return true
        }
      }, 'the client knows that its pool has failed')
      expect(() => own.applyAsync('add')).toThrow('no licence')
    })
  })

  describe('worker dies in a task', () => {
    it('fails that task with WORKER_CRASHED, exit code and signal; a new worker takes its place', async () => {
      const exit = await errorOf(pool.apply('exit', [3]))
      expect(exit).toBeInstanceOf(WorkerCrashedError)
      expect(exit).toMatchObject({ code: 'INTERNAL', reason: 'WORKER_CRASHED', exitCode: 3, started: true })
      const killed = await errorOf(pool.apply('killSelf'))
      expect(killed).toMatchObject({ reason: 'WORKER_CRASHED', signal: 'SIGKILL', exitCode: undefined })
      expect(await pool.map('square', [1, 2, 3, 4])).toEqual([1, 4, 9, 16])
      await until(
        async () => (await pool.info()).workers.filter(({ state }) => state === 'idle').length === 2,
        'the pool is whole again',
      )
    })

    it('retries: n runs it again', async () => {
      expect(await pool.apply('crashUntilAttempt', [3], undefined, { retries: 2 })).toBe(3)
      await expect(pool.apply('crashUntilAttempt', [3], undefined, { retries: 1 })).rejects.toBeInstanceOf(
        WorkerCrashedError,
      )
    })
  })

  describe('unencodable result', () => {
    it('is an EncodingError for that task; the worker lives', async () => {
      await using own = await open({ processes: 1 })
      const before = await own.apply('pid')
      for (const what of ['function', 'symbol', 'cycle']) {
        const error = await errorOf(own.apply('giveBack', [what]))
        expect(error).toBeInstanceOf(EncodingError)
        expect(error).toMatchObject({ reason: 'RESULT_ENCODE_FAILED', code: 'INTERNAL', started: true })
      }
      expect(await own.apply('pid')).toBe(before)
    })

    it('in a map is the failure of its own item', async () => {
      const outcomes = await pool.map('oddFunction', [2, 3, 4, 5], { chunksize: 4, settle: true })
      expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled', 'rejected'])
      expect(outcomes[1]).toMatchObject({ reason: { name: 'EncodingError', index: 1 } })
    })
  })

  describe('processes < 1, chunksize < 1, unknown function', () => {
    it.each([0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, '2'])(
      'processes, maxtasksperchild and chunksize %s are refused at once',
      async (bad) => {
        const count = bad as number
        await expect(open({ processes: count })).rejects.toBeInstanceOf(BadRequestError)
        await expect(open({ maxtasksperchild: count })).rejects.toBeInstanceOf(BadRequestError)
        expect(() => pool.imap('add', [1], { chunksize: count })).toThrow(
          `chunksize is ${typeof bad === 'string' ? `"${bad}"` : bad}; it must be an integer, 1 or more`,
        )
        await expect(pool.map('add', [1], { chunksize: count })).rejects.toBeInstanceOf(BadRequestError)
        expect((await pool.info()).processes).toBe(2)
      },
    )

    it.each(['toString', '__proto__', 'constructor', '', 'nothing', 'hasOwnProperty'])(
      '%j is not a function',
      async (name) => {
        const before = await tasksSubmitted()
        const error = await errorOf(pool.apply(name))
        expect(error).toBeInstanceOf(UnknownFunctionError)
        expect(error).toMatchObject({ code: 'NOT_FOUND', reason: 'FUNCTION_NOT_FOUND', started: false })
        await expect(pool.map(name, [1])).rejects.toBeInstanceOf(UnknownFunctionError)
        expect(await drain(pool.imap(name, [1, 2]))).toMatchObject([{ name: 'UnknownFunctionError' }])
        expect(await tasksSubmitted()).toBe(before)
      },
    )

    it('names the nearest', async () => {
      await expect(pool.apply('sqaure', [2])).rejects.toThrow('did you mean square?')
    })
  })

  describe('a call is cancelled, its deadline passes, its client dies', () => {
    it('queued: it is dropped at once and never runs', async () => {
      await using own = await open({ processes: 1 })
      const go = folder.path('go')
      const running = own.applyAsync('waitFor', [folder.path('begun'), go, 1])
      await until(() => existsSync(folder.path('begun')), 'the worker is busy')
      const controller = new AbortController()
      const cancelled = own.applyAsync('appendLine', [folder.path('ran'), 'x'], undefined, {
        signal: controller.signal,
      })
      const late = own.applyAsync('appendLine', [folder.path('ran'), 'y'], undefined, { timeout: 50 })
      await until(async () => (await own.info()).queued === 2, 'both wait')
      controller.abort(new Error('changed my mind'))
      expect(await errorOf(cancelled)).toBeInstanceOf(CancelledError)
      expect(await errorOf(late)).toBeInstanceOf(TimeoutError)
      await until(async () => (await own.info()).queued === 0, 'none waits')
      writeFileSync(go, '')
      await running
      expect(existsSync(folder.path('ran'))).toBe(false)
    })

    it('a signal that many calls share cancels each of them, without a warning', async () => {
      await using own = await open({ processes: 1 })
      const warnings: Error[] = []
      // Other tests of this process may drop failed results.
      const warned = (warning: Error) => warning.name !== 'FarpoolUnseenError' && warnings.push(warning)
      process.on('warning', warned)
      const controller = new AbortController()
      const calls = Array.from({ length: 100 }, () =>
        errorOf(own.apply('never', [], undefined, { signal: controller.signal })),
      )
      await until(async () => (await own.info()).queued === 99, 'all have come in')
      controller.abort()
      for (const call of calls) expect(await call).toBeInstanceOf(CancelledError)
      process.off('warning', warned)
      expect(warnings).toEqual([])
      await expect(own.apply('add', [1], undefined, { signal: controller.signal })).rejects.toBeInstanceOf(
        CancelledError,
      )
    })

    it("running: the function's AbortSignal fires, and its process lives when it ends", async () => {
      await using own = await open({ processes: 1 })
      const before = await own.apply('pid')
      const file = folder.path('log')
      await errorOf(own.apply('untilAborted', [file], undefined, { timeout: 200 }))
      const controller = new AbortController()
      const second = own.applyAsync('untilAborted', [file], undefined, { signal: controller.signal })
      await until(() => readFileSync(file, 'utf8').split('\n').length === 4, 'the second call is running')
      controller.abort()
      await errorOf(second)
      await until(() => readFileSync(file, 'utf8').split('\n').length === 5, 'both calls have seen their signal')
      expect(readFileSync(file, 'utf8')).toMatch(
        /^(begun\naborted: the caller has given up: (TASK_TIMEOUT|CANCELLED)\n){2}$/,
      )
      expect(await own.apply('pid')).toBe(before)
    })

    it('running and deaf: its process is killed after the grace, and replaced', async () => {
      await using own = await open({ processes: 1 })
      const before = await own.apply<'pid'>('pid')
      expect(await errorOf(own.apply('spin', [], undefined, { timeout: 50 }))).toBeInstanceOf(TimeoutError)
      expect(await own.apply('pid')).not.toBe(before)
      expect(isAlive(before as number)).toBe(false)
    })

    it('an item of a map that was cancelled ends between items', async () => {
      await using own = await open({ processes: 1 })
      const controller = new AbortController()
      const before = await own.apply('pid')
      const file = folder.path('log')
      const mapped = own.mapAsync('untilAborted', [file, file, file], { chunksize: 3, signal: controller.signal })
      await until(() => existsSync(file), 'the first item is running')
      controller.abort()
      expect(await errorOf(mapped)).toBeInstanceOf(CancelledError)
      expect(await own.apply('pid')).toBe(before)
      expect(readFileSync(file, 'utf8').match(/begun/g)).toHaveLength(1)
    })
  })
})
