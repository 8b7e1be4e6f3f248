import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { EncodingError, LimitError, Pool, RemoteError } from 'farpool'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { errorOf } from '../support/calls.js'
import { FUNCTIONS, farpool, ServerProcess, temporaryFolder } from '../support/server.js'

describe('modules', () => {
  const folder = temporaryFolder()
  afterAll(() => folder.remove())
  const module = (name: string, code: string) => {
    writeFileSync(folder.path(name), code)
    return folder.path(name)
  }
  const serve = async (...modules: string[]) => {
    const { code, stderr } = await farpool(['serve', ...modules, '--processes', '1', '--listen', '127.0.0.1:0'])
    return { code, said: stderr }
  }

  it('one that does not exist', async () => {
    expect(await serve('./no/such/module.js')).toMatchObject({
      code: 1,
      said: expect.stringMatching(/there is no module .*no\/such\/module\.js/),
    })
  })

  it('one that throws when it is loaded', async () => {
    const said = await serve(module('throws.mjs', `throw new Error('not today')`))
    expect(said).toMatchObject({
      code: 1,
      said: expect.stringMatching(/throws\.mjs cannot be loaded: Error: not today/),
    })
  })

  it('one with a syntax error', async () => {
    const said = await serve(module('syntax.mjs', 'export const = 1'))
    expect(said).toMatchObject({ code: 1, said: expect.stringContaining('SyntaxError') })
  })

  it('one that exports nothing, or nothing that can be called', async () => {
    for (const code of ['', 'export const x = 1', 'export class A {}']) {
      expect(await serve(module('empty.mjs', code))).toMatchObject({
        code: 1,
        said: expect.stringContaining('exports no function'),
      })
    }
  })

  it('two that export the same name', async () => {
    const said = await serve(FUNCTIONS, module('again.mjs', 'export const add = () => 1'))
    expect(said).toMatchObject({
      code: 1,
      said: expect.stringMatching(/again\.mjs exports "add", which .*functions\.mjs exports too/),
    })
  })

  it('one that ends its process while it is loaded', async () => {
    const said = await serve(module('exits.mjs', 'process.exit(7)'))
    expect(said).toMatchObject({
      code: 1,
      said: expect.stringMatching(/died before they were ready; the last one exited with code 7/),
    })
  })

  it('an initializer that throws', async () => {
    const { code, stderr } = await farpool([
      'serve',
      FUNCTIONS,
      '--initializer',
      'failToInitialize',
      '--listen',
      '127.0.0.1:0',
    ])
    expect(code).toBe(1)
    expect(stderr).toContain('the initializer failToInitialize threw Error: no licence')
  })

  it('CommonJS and several modules work; TypeScript does where this Node can, and is a clear error where not', async () => {
    const common = module(
      'common.cjs',
      'module.exports = { double: (x) => 2 * x, ...{ ["tri" + "ple"]: (x) => 3 * x } }',
    )
    await using server = await ServerProcess.start(['--processes', '1'], [FUNCTIONS, common])
    await using pool = new Pool(server.address)
    expect([await pool.apply('double', [2]), await pool.apply('triple', [2]), await pool.apply('add', [2])]).toEqual([
      4, 6, 2,
    ])
    const typescript = module('typed.ts', 'export const half = (x: number): number => x / 2')
    if ('typescript' in process.features && process.features.typescript) {
      await using typed = await Pool.local(typescript, { processes: 1 })
      expect(await typed.apply('half', [4])).toBe(2)
    } else {
      expect(await serve(typescript)).toMatchObject({
        code: 1,
        said: expect.stringContaining('is TypeScript, which Node'),
      })
    }
  })
})

describe('what functions throw and return', () => {
  let server: ServerProcess
  let pool: Pool
  beforeAll(async () => {
    server = await ServerProcess.start(['--processes', '1'])
    pool = new Pool(server.address)
  })
  afterAll(async () => {
    // Whatever a test did: the server goes on, with the same worker where none had to die.
    expect(await pool.apply('add', [1, 2])).toBe(3)
    await pool.terminate()
    await server[Symbol.asyncDispose]()
  })

  it.each([
    ['string', 'string', 'a string'],
    ['null', 'null', 'null'],
    ['undefined', 'undefined', 'undefined'],
    ['surrogate', 'Error', 'lone \ufffd surrogate'],
    ['hostile', 'unknown', 'an object whose properties throw when they are read'],
  ])('a thrown %s', async (what, type, message) => {
    const error = await errorOf(pool.apply('throwIt', [what]))
    expect(error).toBeInstanceOf(RemoteError)
    expect(error).toMatchObject({ type, message, reason: 'FUNCTION_ERROR', code: 'UNKNOWN' })
  })

  it('an Error with a chain of causes, and the stack of each', async () => {
    const error = (await errorOf(pool.apply('throwIt', ['cause']))) as RemoteError
    expect(error.message).toBe('outer')
    const cause = error.cause as Error
    expect(cause).toMatchObject({
      name: 'TypeError',
      message: 'outer',
      cause: { message: 'middle', cause: { name: 'RangeError', message: 'inner' } },
    })
    expect(cause.stack).toMatch(/^TypeError: outer\n\s+at throwIt \(.*functions\.mjs:\d+/)
    const inner = (cause.cause as Error).cause as Error
    expect(inner.stack).toContain('functions.mjs')
  })

  it('an Error with a message of 1 MB, in a call and in a map', async () => {
    for (const failing of [pool.apply('throwIt', ['large']), pool.map('throwIt', ['large'])]) {
      const error = (await errorOf(failing)) as RemoteError
      expect(error.message).toMatch(/^x{100,}…$/)
      expect(error.reason).toBe('FUNCTION_ERROR')
    }
  })

  it('an Error with a status code: its code is that of the call, but never UNAVAILABLE, which clients send again', async () => {
    expect(await errorOf(pool.apply('throwIt', ['code']))).toMatchObject({
      code: 'NOT_FOUND',
      reason: 'FUNCTION_ERROR',
    })
    expect(await errorOf(pool.apply('throwIt', ['unavailable']))).toMatchObject({
      code: 'UNKNOWN',
      reason: 'FUNCTION_ERROR',
    })
  })

  it('a rejected promise', async () => {
    expect(await errorOf(pool.apply('giveBack', ['rejected']))).toMatchObject({
      name: 'RemoteError',
      message: 'rejected',
    })
  })

  it.each([
    ['function', /a function/],
    ['symbol', /a symbol/],
    ['cycle', /cycl/],
  ])('a returned %s', async (what, message) => {
    const error = (await errorOf(pool.apply('giveBack', [what]))) as Error
    expect(error).toBeInstanceOf(EncodingError)
    expect(error.message).toMatch(message)
  })

  it('a returned value of 10 MB', async () => {
    const value: Uint8Array = await pool.apply('giveBack', ['10MB'])
    expect(value).toBeInstanceOf(Uint8Array)
    expect(Buffer.compare(value, new Uint8Array(10_000_000).fill(7))).toBe(0)
  })

  it('arguments that cannot be sent fail here, and name their place', async () => {
    const error = (await errorOf(pool.apply('add', [1, { deep: [() => 1] }]))) as Error
    expect(error).toBeInstanceOf(EncodingError)
    expect(error.message).toMatch(/^argument 2 cannot be sent: .*deep\[0\]/)
    const seen: unknown[] = []
    const results = pool.imap('identity', [1, Symbol('s'), 3])
    for (;;) {
      const step = await results.next().catch((failure: unknown) => ({ done: false, value: failure }))
      if (step.done) break
      seen.push(step.value)
    }
    expect(seen).toMatchObject([1, { name: 'EncodingError' }, 3])
  })

  it.each([
    ['args', () => pool.apply('add', 'ab' as never)],
    ['input', () => pool.map('add', 5 as never)],
    ['function', () => pool.apply(undefined as never)],
    ['timeout', () => pool.apply('add', [1], undefined, { timeout: -1 })],
    ['timeout', () => pool.apply('add', [1], undefined, { timeout: Number.NaN })],
    ['retries', () => pool.apply('add', [1], undefined, { retries: 0.5 })],
  ])('a wrong %s is named', async (what, call) => {
    const error = (await errorOf(call())) as Error
    expect(error).toMatchObject({ name: 'BadRequestError', reason: 'BAD_REQUEST' })
    expect(error.message).toContain(what)
  })

  it('a timeout of more than 24.8 days is no timeout', async () => {
    expect(await pool.apply('add', [1, 2], undefined, { timeout: 2 ** 40 })).toBe(3)
    expect(await pool.applyAsync('add', [1, 2]).get(2 ** 40)).toBe(3)
  })
})

describe('sizes', () => {
  it('a message above the limit, and a result above it, fail; the server goes on', async () => {
    await using server = await ServerProcess.start(['--processes', '1', '--max-message-bytes', '100000'])
    await using pool = new Pool(server.address)
    for (const bytes of [150_000, 5_000_000]) {
      const sent = await errorOf(pool.apply('identity', ['x'.repeat(bytes)]))
      expect(sent).toBeInstanceOf(LimitError)
      expect(sent).toMatchObject({ code: 'RESOURCE_EXHAUSTED', reason: 'PAYLOAD_TOO_LARGE' })
    }
    const returned = await errorOf(pool.apply('giveBack', ['10MB']))
    expect(returned).toBeInstanceOf(LimitError)
    expect(returned).toMatchObject({ code: 'RESOURCE_EXHAUSTED', reason: 'RESULT_TOO_LARGE', started: true })
    expect(returned).toMatchObject({ message: expect.stringMatching(/has 100000\d\d bytes; the limit is 100000$/) })
    expect(await pool.map('giveBack', ['10MB', 'x'], { chunksize: 1, settle: true })).toMatchObject([
      { status: 'rejected', reason: { reason: 'RESULT_TOO_LARGE' } },
      { status: 'fulfilled', value: 'x' },
    ])
    expect(await pool.apply('add', [1, 2])).toBe(3)
  })
})

describe.runIf(process.platform === 'linux')('a result that no message can carry', () => {
  it.each([
    ['a call', (pool: Pool, bytes: number) => pool.apply('bytesOf', [bytes])],
    ['a chunk', (pool: Pool, bytes: number) => pool.map('bytesOf', [bytes / 2, bytes / 2], { chunksize: 2 })],
  ])('of %s never leaves its worker, which lives', async (_, call) => {
    await using server = await ServerProcess.start(['--processes', '1'])
    await using pool = new Pool(server.address)
    const pid = await pool.apply('pid')
    const peak = () => Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${server.pid}/status`, 'utf8'))?.[1])
    const before = peak()
    const error = await errorOf(call(pool, 400 * 2 ** 20))
    expect(error).toMatchObject({ reason: 'RESULT_TOO_LARGE', started: true })
    expect(peak() - before).toBeLessThan(100 * 1024)
    expect(await pool.apply('pid')).toBe(pid)
  })
})

describe('addresses', () => {
  it.runIf(process.platform === 'linux')(
    'a socket whose server has too much to do to answer is not taken',
    async () => {
      const folder = temporaryFolder()
      const path = folder.path('busy.sock')
      const listen = `require('node:net').createServer().listen({ path: ${JSON.stringify(path)}, backlog: 1 }, () => {
      console.log('listening')
      for (;;);
    })`
      const busy = spawn(process.execPath, ['-e', listen], { stdio: ['ignore', 'pipe', 'inherit'] })
      await once(busy.stdout, 'data')
      // The kernel takes a few for it, and then none.
      const peers: Socket[] = []
      for (let refused = false; !refused && peers.length < 100; ) {
        const peer = connect(path)
        peers.push(peer)
        refused = await once(peer, 'connect').then(
          () => false,
          () => true,
        )
      }
      const { code, stderr } = await farpool(['serve', FUNCTIONS, '--processes', '1', '--listen', `unix:${path}`])
      const isThere = existsSync(path)
      for (const peer of peers) peer.destroy()
      busy.kill('SIGKILL')
      folder.remove()
      expect([code, stderr, isThere]).toEqual([
        2,
        expect.stringContaining('another server may listen there (EAGAIN)'),
        true,
      ])
    },
  )

  it('where nobody listens is UnavailableError', async () => {
    await using pool = new Pool('127.0.0.1:1')
    expect(await errorOf(pool.apply('add', [1]))).toMatchObject({
      name: 'UnavailableError',
      reason: 'CONNECTION_FAILED',
    })
    await using own = new Pool('127.0.0.1:1', { processes: 1 })
    expect(await errorOf(own.apply('add', [1]))).toMatchObject({ name: 'UnavailableError' })
  })
})
