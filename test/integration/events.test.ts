import { once } from 'node:events'
import type { Pool, WorkerExit } from 'farpool'
import { describe, expect, it } from 'vitest'
import { errorOf, workerPids } from '../support/calls.js'
import { sharedFarm, startFarm } from '../support/farm.js'

const farm = sharedFarm()

/** The `detail` of the next event. */
const nextExit = (pool: Pool): Promise<WorkerExit> =>
  new Promise((resolve) =>
    pool.events.addEventListener('workerExited', ({ detail }) => resolve(detail), { once: true }),
  )

describe.each(['local', 'stream', 'unary'] as const)('the events of a pool over %s', (transport) => {
  it('tell which worker has ended, and how; info() counts them', async () => {
    await using pool = await farm.open(transport, { processes: 1 })
    await pool.ready()
    const [pid] = await workerPids(pool)
    const killed = nextExit(pool)
    await errorOf(pool.fn.killSelf())
    expect(await killed).toEqual({ pid, exitCode: undefined, signal: 'SIGKILL' })
    const exited = nextExit(pool)
    await errorOf(pool.fn.exit(7))
    expect(await exited).toMatchObject({ exitCode: 7, signal: undefined })
    const { events } = await pool.info()
    expect(events).toEqual({ connected: transport === 'local' ? 0 : 1, disconnected: 0, workerExited: 2 })
  })

  it('come to every kind of listener of an EventTarget: an object, one with a signal, events.once()', async () => {
    await using pool = await farm.open(transport, { processes: 1 })
    expect(pool.events).toBeInstanceOf(EventTarget)
    const seen: unknown[] = []
    const listener = {
      codes: [] as unknown[],
      handleEvent({ detail }: CustomEvent<WorkerExit>) {
        this.codes.push(detail.exitCode)
      },
    }
    const ended = new AbortController()
    pool.events.addEventListener('workerExited', listener)
    pool.events.addEventListener('workerExited', () => seen.push('until aborted'), { signal: ended.signal })
    pool.events.addEventListener('workerExited', () => seen.push('once'), { once: true })
    for (const code of [7, 8]) {
      const exited = once(pool.events, 'workerExited')
      await errorOf(pool.fn.exit(code))
      expect(await exited).toMatchObject([{ type: 'workerExited', detail: { exitCode: code } }])
      ended.abort()
    }
    expect(listener.codes).toEqual([7, 8])
    expect(seen).toEqual(['until aborted', 'once'])
    pool.events.removeEventListener('workerExited', listener)
    const exited = once(pool.events, 'workerExited')
    await errorOf(pool.fn.exit(9))
    await exited
    expect(listener.codes).toEqual([7, 8])
  })

  it('do not end the program if a listener throws or rejects, and stop for a listener that is removed', async () => {
    await using pool = await farm.open(transport, { processes: 1 })
    const removed = () => expect.unreachable('the listener was removed')
    pool.events.addEventListener('workerExited', removed)
    pool.events.removeEventListener('workerExited', removed)
    pool.events.addEventListener('workerExited', async () => {
      throw new TypeError('a faulty listener')
    })
    const warning = once(process, 'warning')
    await errorOf(pool.fn.exit(7))
    expect(await warning).toMatchObject([{ name: 'FarpoolCallbackError', message: 'a faulty listener' }])
  })
})

describe('the events of a connection', () => {
  it('come when it is made and when it has ended', async () => {
    await using own = await startFarm()
    const seen: unknown[] = []
    const ended = new Promise<void>((resolve) => {
      own.pool.events.addEventListener('disconnected', ({ detail }) => {
        seen.push([detail.name, detail.reason])
        resolve()
      })
    })
    own.pool.events.addEventListener('connected', () => seen.push('connected'))
    await own.pool.ready()
    own.server.signal('SIGKILL')
    await ended
    expect(seen).toEqual(['connected', ['UnavailableError', 'CONNECTION_LOST']])
  })
})

describe('ready()', () => {
  it('rejects with what keeps the pool from running calls', async () => {
    await using pool = await farm.open('stream', { processes: 1, initializer: 'failToInitialize' })
    expect(await errorOf(pool.ready())).toMatchObject({ name: 'InitializerError' })
    const nobody = farm.connect()
    await nobody.ready()
  })
})
