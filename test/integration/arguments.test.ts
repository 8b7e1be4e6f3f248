import { Pool, partial } from 'farpool'
import { describe, expect, it } from 'vitest'
import { sharedFarm } from '../support/farm.js'
import { FUNCTIONS } from '../support/server.js'

/**
 * Arguments and options that are wrong: an error that names the argument, what it was, and what is right. The calls are
 * those of a program without types.
 */

const farm = sharedFarm()
// biome-ignore lint/suspicious/noExplicitAny: wrong calls do not compile
type Wrong = any

/** The error of a call, whether it throws or rejects. */
async function errorOf(call: () => unknown): Promise<{ name: string; message: string }> {
  try {
    await call()
  } catch (error) {
    return error as Error
  }
  return expect.unreachable('the call has a result')
}

const BAD: readonly (readonly [method: string, args: readonly unknown[], message: RegExp])[] = [
  ['apply', [(x: number) => x, [1]], /^the function is the function \(without a name\); the function runs in another/],
  ['map', [function square() {}, [1]], /^the function is the function square; .* where it has a name: "square"$/],
  ['imap', [class Big {}, [1]], /the function Big/],
  ['apply', [null], /the function is null/],
  ['apply', [{ name: 'add' }], /the function is an object; it must be the name of a function/],
  ['apply', ['add', 5], /^args is 5; it must be an array of arguments$/],
  ['apply', ['add', { a: 1 }], /^args is an object/],
  ['apply', ['add', new Set([1])], /^args is a Set/],
  ['applyAsync', ['add', 'ab'], /^args is "ab"/],
  ['apply', ['add', [1], [2]], /^kwargs is an array of 1; it must be an object of keyword arguments$/],
  ['apply', ['add', [1], 5], /^kwargs is 5/],
  ['apply', ['add', [1], null], /^kwargs is null/],
  ['apply', ['add', [1], new Map()], /^kwargs is a Map/],
  ['apply', ['add', [1], undefined, 5], /^the options of apply are 5; they must be an object$/],
  ['apply', ['add', [1], undefined, null], /^the options of apply are null/],
  ['map', ['add', [1], [5]], /^the options of map are an array of 1/],
  ['imap', ['add', [1], 'fast'], /^the options of imap are "fast"/],
  ['apply', ['add', [1], undefined, { timeOut: 5 }], /^apply has no option timeOut; did you mean timeout\?$/],
  ['apply', ['add', [1], undefined, { chunksize: 5 }], /^apply has no option chunksize; it has timeout, /],
  ['apply', ['add', [1], undefined, { toString: 5 }], /^apply has no option toString/],
  ['map', ['add', [1], { chunkSize: 2 }], /^map has no option chunkSize; did you mean chunksize\?$/],
  ['imapUnordered', ['add', [1], { failFast: true }], /^imap has no option failFast/],
  [
    'apply',
    ['add', [1], undefined, { timeout: '5' }],
    /^timeout is "5"; it must be a number of milliseconds, 0 or more$/,
  ],
  ['apply', ['add', [1], undefined, { runTimeout: -1 }], /^runTimeout is -1/],
  ['apply', ['add', [1], undefined, { queueTimeout: Number.NaN }], /^queueTimeout is NaN/],
  ['apply', ['add', [1], undefined, { retries: 0.5 }], /^retries is 0\.5; it must be an integer, 0 or more$/],
  ['apply', ['add', [1], undefined, { signal: 'stop' }], /^signal is "stop"; it must be an AbortSignal$/],
  ['apply', ['add', [1], undefined, { signal: {} }], /^signal is an object/],
  ['applyAsync', ['add', [1], undefined, { callback: 5 }], /^callback is 5; it must be a function$/],
  ['mapAsync', ['add', [1], { errorCallback: {} }], /^errorCallback is an object/],
  ['imap', ['add', [1], { onProgress: 'yes' }], /^onProgress is "yes"/],
  ['map', ['add', [1], { settle: 1 }], /^settle is 1; it must be a boolean$/],
  ['map', ['add', [1], { chunksize: 0 }], /^chunksize is 0; it must be an integer, 1 or more$/],
  ['imap', ['add', [1], { chunksize: 1.5 }], /^chunksize is 1\.5/],
  ['apply', ['add', [1], undefined, { retry: 3 }], /^retry is 3; it must be an object, such as \{ times: 2 \}$/],
  ['apply', ['add', [1], undefined, { retry: {} }], /^retry has no times; it must be an integer, 0 or more$/],
  ['apply', ['add', [1], undefined, { retry: { times: -1 } }], /^times is -1/],
  ['apply', ['add', [1], undefined, { retry: { times: 1, backoff: 0 } }], /^backoff is 0; it must be a number, 1 or/],
  ['apply', ['add', [1], undefined, { retry: { times: 1, retries: 5 } }], /^apply has no option retries; /],
  ['with', [{ processes: 5 }], /^with has no option processes/],
  ['with', [undefined], /^the options of with are undefined/],
  ['map', ['add', 5], /^the input is 5; it must be an array or another iterable of items$/],
  ['map', ['add', null], /^the input is null/],
  ['starmap', ['add', { length: 2 }], /^the input is an object/],
  ['map', ['add', (async function* () {})()], /^the input is /],
  ['imap', ['add', undefined], /^the input is undefined; it must be an iterable or an async iterable of items$/],
]

describe('a wrong argument', () => {
  it.each(BAD)('of %s(%j)', async (method, args, message) => {
    const pool: Wrong = new Pool(farm.address)
    expect(await errorOf(() => pool[method](...args))).toMatchObject({
      name: 'BadRequestError',
      reason: 'BAD_REQUEST',
      message: expect.stringMatching(message),
    })
    await pool.close()
    await pool.join()
  })

  it.each([
    ['a number', [5], /^the function is 5/],
    ['args', ['add', 5], /^args is 5/],
    ['kwargs', ['add', [], [1]], /^kwargs is an array of 1/],
  ] as const)('of partial: %s', async (_, args, message) => {
    expect(await errorOf(() => (partial as Wrong)(...args))).toMatchObject({
      name: 'BadRequestError',
      message: expect.stringMatching(message),
    })
  })

  it('of get(), wait() and next()', async () => {
    const pool: Wrong = farm.pool
    const result = pool.applyAsync('add', [1])
    const results = pool.imap('add', [1])
    for (const call of [
      () => result.get('5'),
      () => result.wait(-1),
      () => results.next('5'),
      () => results.chunks().next({}),
    ]) {
      expect(await errorOf(call)).toMatchObject({
        name: 'BadRequestError',
        message: expect.stringMatching(/^timeout is /),
      })
    }
    expect(await result).toBe(1)
  })

  it('of addEventListener()', async () => {
    const { events }: Wrong = farm.pool
    for (const [args, message] of [
      [['connected', 5], /^the listener is 5; it must be a function, or have a method handleEvent$/],
      [['connected', {}], /^the listener is an object; it must be a function, or have a method handleEvent$/],
      [['connect', () => {}], /^a pool has no event "connect"; it has connected, disconnected, workerExited$/],
    ] as const) {
      expect(await errorOf(() => events.addEventListener(...args))).toMatchObject({
        name: 'BadRequestError',
        message: expect.stringMatching(message),
      })
    }
  })

  const OPTIONS = [
    ['an unknown option', { timeout: 5 }, /has no option timeout; /],
    ['processes', { processes: '2' }, /^processes is "2"; it must be an integer, 1 or more$/],
    [
      'initializer',
      { initializer: () => 1 },
      /^initializer is the function initializer; it must be the name of a function/,
    ],
    ['initargs', { initializer: 'initialize', initargs: 5 }, /^initargs is 5; it must be an array/],
    ['initargs without an initializer', { initargs: [1] }, /^initargs were given without an initializer$/],
    [
      'initargs that cannot be sent',
      { initializer: 'initialize', initargs: [() => 1] },
      /^argument 1 of initargs cannot be sent: /,
    ],
    ['maxtasksperchild', { maxtasksperchild: 0 }, /^maxtasksperchild is 0/],
    [
      'token',
      { token: 'se cret' },
      /^(token is of the wrong form; it must be visible ASCII|Pool.local has no option token)/,
    ],
    ['encoding', { encoding: 'xml' }, /^encoding is "xml"; it must be 'cbor' or 'json'$/],
    ['no object', 5, /are 5; they must be an object$/],
  ] as const
  it.each(OPTIONS)('of a pool: %s', async (_, options, message) => {
    const expected = {
      name: expect.stringMatching(/^(BadRequest|Encoding)Error$/),
      message: expect.stringMatching(message),
    }
    expect(await errorOf(() => new Pool(farm.address, options as Wrong))).toMatchObject(expected)
    expect(await errorOf(() => Pool.local(FUNCTIONS, options as Wrong))).toMatchObject(expected)
  })

  it.each([
    ['transport', { transport: 'unary' }, /^Pool\.local has no option transport; /],
    ['server', { server: true }, /^Pool\.local has no option server; /],
    ['output', { output: 5 }, /^output is 5; it must be 'inherit', 'ignore' or a function$/],
    ['graceMs', { graceMs: -1 }, /^graceMs is -1/],
    ['maxHeapMb', { maxHeapMb: '1g' }, /^maxHeapMb is "1g"/],
  ] as const)('of a local pool: %s', async (_, options, message) => {
    expect(await errorOf(() => Pool.local(FUNCTIONS, options as Wrong))).toMatchObject({
      name: 'BadRequestError',
      message: expect.stringMatching(message),
    })
  })

  it.each([
    ['a number', 5, /^the module is 5; it must be a path or a URL$/],
    ['nothing', undefined, /^the module is undefined/],
    ['an empty path', '', /^the module is ""/],
    ['an empty array', [], /^modules is an empty array/],
    ['a module itself', [{ add: () => 1 }], /^the module is an object; it must be a path or a URL$/],
    [
      'another scheme',
      new URL('https://example.org/x.js'),
      /^the module is https:\/\/example\.org\/x\.js; it must be a path or a file: URL$/,
    ],
    [
      'another host',
      'file://host/m.js',
      /^the module is file:\/\/host\/m\.js, which is no file: URL of a file: .*host/,
    ],
    [
      'an encoded slash',
      new URL('file:///a%2Fm.js'),
      /^the module is file:\/\/\/a%2Fm\.js, which is no file: URL of a file: /,
    ],
    ['no URL', 'file://[', /^the module is file:\/\/\[, which is no file: URL of a file: Invalid URL$/],
  ] as const)('of the modules of a local pool: %s', async (_, modules, message) => {
    expect(await errorOf(() => Pool.local(modules as Wrong))).toMatchObject({
      name: 'BadRequestError',
      message: expect.stringMatching(message),
    })
  })
})
