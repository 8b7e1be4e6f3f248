import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { inspect } from 'node:util'
import { Pool, type RemoteError, type WorkerCrashedError } from 'farpool'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { errorOf } from '../support/calls.js'
import { type Farm, sharedFarm } from '../support/farm.js'
import { until } from '../support/server.js'

/** What a caller learns from the error of a function, and from the death of its worker. */

const MODULE = `
import { setTimeout as sleep } from 'node:timers/promises'

export class HttpError extends Error {
  status = 503
  code = 'ENOENT'
  at = new Date(0)
  retry = () => {}
}
export const identity = (value) => value
export const fail = () => {
  throw new HttpError('no backend', { cause: new RangeError('full', { cause: 'a text' }) })
}
export const failMany = async () => {
  throw new AggregateError([new HttpError('first'), 'second'], 'all failed')
}
export const failWithoutStack = () => {
  const error = new Error('bare')
  error.stack = undefined
  throw error
}
export const forget = async (text) => {
  Promise.reject(new HttpError(text))
  await sleep(60_000)
}
export const throwLater = async (text) => {
  setTimeout(() => { throw new HttpError(text) })
  await sleep(60_000)
}
export const listen = async () => {
  const caught = new Promise((resolve) => process.once('uncaughtException', resolve))
  setTimeout(() => { throw new Error('handled') })
  return (await caught).message
}
export const exit = (code) => process.exit(code)
export const never = () => new Promise(() => {})
`

const farm = sharedFarm({ args: ['--processes', '2', '--grace', '50'], module: MODULE })
const HERE = fileURLToPath(import.meta.url)

/** The number of the first line of this file that has the text. */
const lineOf = (text: string): number =>
  readFileSync(HERE, 'utf8').slice(0, readFileSync(HERE, 'utf8').indexOf(text)).split('\n').length

const open = (transport: Parameters<Farm['open']>[0], options = {}) =>
  farm.open(transport, { processes: 1, ...options })

describe.each(['local', 'stream', 'unary'] as const)('over %s, an error', (transport) => {
  let pool: Pool
  beforeAll(async () => {
    pool = await open(transport)
  })
  afterAll(() => pool.terminate())

  it('of a function arrives with its class, code, properties and causes, and the stack of the function alone', async () => {
    const error = (await errorOf(pool.apply('fail'))) as RemoteError
    expect(error).toMatchObject({ name: 'RemoteError', type: 'HttpError', code: 'UNKNOWN', message: 'no backend' })
    const cause = error.cause as Error
    expect(cause).toMatchObject({
      name: 'HttpError',
      message: 'no backend',
      status: 503,
      code: 'ENOENT',
      at: new Date(0),
    })
    expect(cause).not.toHaveProperty('retry')
    expect(cause.cause).toMatchObject({
      name: 'RangeError',
      message: 'full',
      cause: { name: 'string', message: 'a text' },
    })
    expect(cause.stack).toMatch(/^HttpError: no backend\n {4}at fail \(.*module\.mjs:12:9\)$/)
  })

  it('with inner errors has them', async () => {
    const { cause } = await errorOf(pool.apply('failMany'))
    expect(cause).toBeInstanceOf(AggregateError)
    expect((cause as AggregateError).errors).toMatchObject([
      { name: 'HttpError', message: 'first', status: 503 },
      { name: 'string', message: 'second' },
    ])
  })

  it('arrives in a JSON pool with the properties that JSON has', async () => {
    await using json = await open(transport, { encoding: 'json' })
    const { cause } = await errorOf(json.apply('fail'))
    expect(cause).toMatchObject({ name: 'HttpError', code: 'ENOENT', status: 503, at: '1970-01-01T00:00:00.000Z' })
  })

  it('without a stack has none, and does not blame the server', async () => {
    expect(((await errorOf(pool.apply('failWithoutStack'))).cause as Error).stack).toBe('Error: bare')
  })

  it('has a stack that names the line of the call', async () => {
    const where = (text: string) => new RegExp(`^\\S+: .*\\n\\s+at .*error-facts\\.test\\.ts:${lineOf(text)}:`)
    const applied = await errorOf(pool.apply('fail', [])) // the apply
    expect(applied.stack).toMatch(where('[])) // the apply'))
    const result = pool.applyAsync('fail', [], {}) // the applyAsync
    expect((await errorOf(result)).stack).toMatch(where(', {}) // the applyAsync'))
    const mapped = await errorOf(pool.map('fail', [1, 2], {})) // the map
    expect(mapped.stack).toMatch(where(', {})) // the map'))
    const results = pool.imap('fail', [1], {}) // the imap
    expect((await errorOf(results.next())).stack).toMatch(where(', {}) // the imap'))
    const [settled] = await pool.map('fail', [1], { settle: true }) // the settled map
    expect(settled).toMatchObject({ reason: { stack: expect.stringMatching(where('}) // the settled map')) } })
    const outcomes = pool.imap('fail', [1], { settle: true }) // the settled imap
    expect((await outcomes.next()).value).toMatchObject({
      reason: { stack: expect.stringMatching(where('}) // the settled imap')) },
    })
  })

  it('in a burst has a stack that names the line of the call, or the one that awaits it', async () => {
    const results = Array.from({ length: 100 }, () => pool.applyAsync('fail', [], undefined, {}))
    for (const result of results.slice(-20)) {
      const { stack } = (await result.get().catch((error: Error) => error)) as Error
      expect(stack).toContain('error-facts.test.ts:')
    }
  })

  it.each([
    ['forget', 'an unhandled rejection: HttpError: lost'],
    ['throwLater', 'an uncaught exception: HttpError: lost'],
  ])('that nothing in the worker caught is that of the running call (%s)', async (name, what) => {
    const error = (await errorOf(pool.apply(name, ['lost']))) as WorkerCrashedError
    expect(error).toMatchObject({ name: 'WorkerCrashedError', reason: 'WORKER_CRASHED', exitCode: 1 })
    expect(error.message).toContain(`that ran ${name} exited with code 1 after ${what}`)
    expect(error.cause).toMatchObject({ name: 'HttpError', message: 'lost', status: 503 })
    expect(await pool.apply('identity', [1])).toBe(1)
  })

  it('that the module itself handles ends nothing', async () => {
    expect(await pool.apply('listen')).toBe('handled')
  })

  it('of a worker that exits names the function, the task and the exit code', async () => {
    const error = await errorOf(pool.apply('exit', [3]))
    expect(error.message).toMatch(/^the worker \(pid \d+\) that ran exit exited with code 3$/)
    expect(error.metadata).toMatchObject({ function: 'exit', task: expect.stringMatching(/^\d+$/), exit_code: '3' })
  })
})

describe('a worker that dies in a task', () => {
  it('is in the log, with its task, its cause and its exit code', async () => {
    await using pool = await open('stream')
    await errorOf(pool.apply('forget', ['not caught']))
    await errorOf(pool.apply('exit', [3]))
    expect(await farm.server.logged(({ cause }) => cause?.includes('not caught') ?? false)).toMatchObject({
      level: 40,
      msg: 'worker has ended',
      task: 1,
      function: 'forget',
      exitCode: 1,
      cause: 'exited with code 1 after an unhandled rejection: HttpError: not caught',
    })
    const exited = await farm.server.logged(({ cause, task }) => cause === 'exited with code 3' && task === 2)
    expect(exited).toMatchObject({ level: 40, function: 'exit', exitCode: 3 })
  })
})

describe('without stacks', () => {
  const silent = sharedFarm({ args: ['--processes', '1', '--no-stacks'], module: MODULE })

  it('the server is named as the reason only if the error has a stack', async () => {
    expect(inspect((await errorOf(silent.pool.apply('fail'))).cause)).toContain('the server sends no stacks')
    expect(inspect((await errorOf(silent.pool.apply('failWithoutStack'))).cause)).not.toContain('no stacks')
  })
})

describe.each(['local', 'stream', 'unary'] as const)('over %s, a TimeoutError', (transport) => {
  it('says in which phase the limit passed, and which limit it was, and is counted as a timeout', async () => {
    await using pool = await open(transport)
    await pool.apply('identity', [1])
    const running = await errorOf(pool.apply('never', [], undefined, { timeout: 80 }))
    const limited = await errorOf(pool.apply('never', [], undefined, { runTimeout: 70 }))
    const mapped = await errorOf(pool.map('never', [1, 2, 3], { timeout: 90, chunksize: 1 }))
    const blocking = pool.applyAsync('never')
    const queued = await errorOf(pool.apply('identity', [1], undefined, { timeout: 60 }))
    const waited = await errorOf(pool.apply('identity', [1], undefined, { queueTimeout: 50 }))
    expect(
      [running, limited, mapped, queued, waited].map(({ name, code, metadata }) => [name, code, metadata]),
    ).toEqual([
      ['TimeoutError', 'DEADLINE_EXCEEDED', { phase: 'running', limit_ms: '80' }],
      ['TimeoutError', 'DEADLINE_EXCEEDED', { phase: 'running', limit_ms: '70' }],
      ['TimeoutError', 'DEADLINE_EXCEEDED', { phase: expect.stringMatching(/queued|running/), limit_ms: '90' }],
      ['TimeoutError', 'DEADLINE_EXCEEDED', { phase: 'queued', limit_ms: '60' }],
      ['TimeoutError', 'DEADLINE_EXCEEDED', { phase: 'queued', limit_ms: '50' }],
    ])
    expect([running.started, queued.started]).toEqual([true, false])
    blocking.cancel()
    await errorOf(blocking)
    await until(async () => (await pool.info()).tasks.cancelled === 1, 'the cancelled call has ended')
    expect((await pool.info()).tasks).toMatchObject({ timedOut: 7, failed: 0 })
  })
})

describe('a call to an address without a server', () => {
  it('that times out was queued', async () => {
    // Nothing answers at this address, and nothing refuses the connection.
    await using pool = new Pool('192.0.2.1:1')
    const { reason, started, metadata } = await errorOf(pool.apply('identity', [1], undefined, { timeout: 50 }))
    if (reason === 'TASK_TIMEOUT') expect([started, metadata]).toEqual([false, { phase: 'queued', limit_ms: '50' }])
  })
})
