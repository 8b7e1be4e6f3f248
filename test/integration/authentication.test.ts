import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { type ServiceError, status } from '@grpc/grpc-js'
import { LimitError, PermissionError, Pool, UnknownFunctionError } from 'farpool'
import { afterAll, describe, expect, it } from 'vitest'
import type {
  ApplyResponse,
  CallResponse,
  GetPoolResponse,
  ListFunctionsResponse,
  MapResponse,
  OpenPoolResponse,
} from '../../proto/gen/farpool/v1/pool_service.js'
import { Status } from '../../proto/gen/google/rpc/status.js'
import { statusToFailure } from '../../wire/failure.js'
import { FRAME_CALLS } from '../../wire/protocol.js'
import { errorOf, linesOf, waiting } from '../support/calls.js'
import { type FarmOptions, sharedFarm, startFarm } from '../support/farm.js'
import { frame } from '../support/raw-call.js'
import { RawClient } from '../support/raw-unary.js'
import { farpool, temporaryFolder, until } from '../support/server.js'
import {
  type AnyCallback,
  alone,
  answer,
  bearer,
  failure,
  group,
  makeStub,
  mapRequest,
  nextOf,
  one,
  request,
  type Stub,
  values,
} from '../support/stub.js'
import { entryOf, tokenOf, writeTokens } from '../support/tokens.js'

/** Who may call, and what: docs/how-to/authenticate.md. */

const folder = temporaryFolder()
afterAll(() => folder.remove())

/** A server with the tokens of these entries. Its `pool` has the token of Ann. */
function withTokens(entries: readonly object[], args: readonly string[] = [], more: FarmOptions = {}) {
  const file = folder.fresh()
  writeTokens(file, entries)
  return { file, options: { ...more, args: ['--tokens', file, ...args], options: { token: tokenOf('ann') } } }
}

/** The stub's calls, with the token of a name. */
const as = (stub: Stub, name: string) => {
  const metadata = () => bearer(tokenOf(name))
  return {
    apply:
      (function_: string, args: unknown[], more = {}) =>
      (done: AnyCallback) =>
        stub.apply({ ...request(function_, ...args), ...more }, metadata(), {}, done),
    ask:
      (method: 'getPool' | 'closePool' | 'joinPool' | 'terminate' | 'listFunctions', asked = {}) =>
      (done: AnyCallback) =>
        stub[method]({ pool: '', ...asked }, metadata(), {}, done),
    call: () => stub.call(metadata()),
    openPool: (more = {}) =>
      stub.openPool(
        { sharedPool: '', processes: 1, initializer: '', initargs: [], maxtasksperchild: undefined, ...more },
        metadata(),
      ),
  }
}

const reasonOf = async (send: (done: AnyCallback) => unknown) => (await failure(send)).failure?.reason

/** The reason for which a stream ends. */
const endOf = (stream: { once(event: 'error', listener: (error: Error) => void): unknown; resume(): unknown }) =>
  new Promise<string | undefined>((resolve) => {
    stream.once('error', (error) => resolve(reasonIn(error as ServiceError)))
    stream.resume()
  })
const reasonIn = (error: ServiceError): string | undefined => {
  const [details] = error.metadata.get('grpc-status-details-bin')
  return details instanceof Buffer ? statusToFailure(Status.decode(details)).reason : undefined
}

/** The name of the owned pool that a lease has opened. */
async function opened(lease: ReturnType<ReturnType<typeof as>['openPool']>): Promise<string> {
  lease.on('error', () => {})
  const { event } = await nextOf<OpenPoolResponse>(lease)
  return event?.$case === 'opened' ? event.value.pool : ''
}

describe('a server with tokens', () => {
  const { options } = withTokens([entryOf('ann'), entryOf('bob')], ['--processes', '2'])
  const farm = sharedFarm(options)

  it.each<[string, string | undefined]>([
    ['no token', undefined],
    ['an empty value', ''],
    ['an empty token', 'Bearer '],
    ['another scheme', `Basic ${tokenOf('ann')}`],
    ['the token without a scheme', tokenOf('ann')],
    ['a wrong token', 'Bearer fp_wrong-and-secret'],
    ['two tokens', `Bearer ${tokenOf('ann')} ${tokenOf('bob')}`],
    ['the beginning of a token', `Bearer ${tokenOf('ann').slice(0, -1)}`],
  ])('refuses a call with %s, and does not repeat it', async (_, value) => {
    const metadata = bearer('')
    metadata.remove('authorization')
    if (value !== undefined) metadata.set('authorization', value)
    const refused = await failure((done) => farm.stub.apply(request('add', 1), metadata, {}, done))
    expect([refused.error.code, refused.failure?.reason]).toEqual([status.UNAUTHENTICATED, 'UNAUTHENTICATED'])
    expect(refused.failure?.started).toBe(false)
    expect(refused.error.details).toMatch(/token|authorization/)
    expect(refused.error.details).not.toMatch(/fp_/)
    const stream = farm.stub.call(metadata)
    expect(await endOf(stream)).toBe('UNAUTHENTICATED')
  })

  it('logs the address of who is refused, but not each time, and never a token', async () => {
    await reasonOf((done) => farm.stub.apply(request('add', 1), done))
    await reasonOf((done) => farm.stub.apply(request('add', 1), done))
    const lines = farm.server.log.filter(({ msg }) => msg.startsWith('a call was refused'))
    expect(lines).toHaveLength(1)
    expect(lines[0]).toMatchObject({ client: '127.0.0.1' })
    expect(JSON.stringify(farm.server.log)).not.toContain('fp_')
  })

  it('takes a token from a stub, and the scheme in any case', async () => {
    const metadata = bearer('')
    metadata.set('authorization', `bearer ${tokenOf('bob')}`)
    const { result } = await answer<ApplyResponse>((done) => farm.stub.apply(request('add', 1, 2), metadata, {}, done))
    expect(values([result ?? {}])).toEqual([3])
  })

  it.each(['stream', 'unary'] as const)('takes a token from a Pool (%s)', async (transport) => {
    await using pool = new Pool(farm.address, { transport, token: tokenOf('ann') })
    expect(await pool.apply('add', [1, 2])).toBe(3)
    expect(await pool.map('square', [1, 2, 3])).toEqual([1, 4, 9])
    expect((await pool.info()).pool).toBe('default')
    await using own = new Pool(farm.address, { transport, token: async () => tokenOf('ann'), processes: 1 })
    expect(await own.apply('add', [1, 2])).toBe(3)
  })

  it('refuses before the request has come', async () => {
    using client = new RawClient(farm.address)
    const { stream, answer: refused } = client.open({})
    stream.write(frame(new Uint8Array(10), 50_000_000))
    expect(await refused).toMatchObject({ status: String(status.UNAUTHENTICATED), reason: 'UNAUTHENTICATED' })
  })

  it('answers health checks without a token, and has no reflection', async () => {
    const health = await farpool(['health', '--address', farm.address])
    expect([health.code, health.stdout]).toEqual([0, 'SERVING\n'])
    using client = new RawClient(farm.address)
    const path = '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo'
    expect(await client.send({ path, headers: { authorization: `Bearer ${tokenOf('ann')}` } })).toMatchObject({
      status: String(status.UNIMPLEMENTED),
    })
    expect(await client.send({ path })).toMatchObject({ status: String(status.UNAUTHENTICATED) })
  })

  it.each(['stream', 'unary'] as const)('gets each call of a Pool with a wrong token once (%s)', async (transport) => {
    let asked = 0
    const token = () => `fp_wrong-${++asked}`
    await using pool = new Pool(farm.address, { transport, token })
    const error = await errorOf(pool.apply('add', [1, 2]))
    expect(error).toBeInstanceOf(PermissionError)
    expect(error).toMatchObject({ reason: 'UNAUTHENTICATED', code: 'UNAUTHENTICATED', started: false })
    expect(error.message).not.toContain('fp_')
    expect(asked).toBe(1)
    expect(await errorOf(pool.map('square', [1, 2]))).toBeInstanceOf(PermissionError)
    expect(asked).toBe(2)
    await using own = new Pool(farm.address, { transport, token, processes: 1 })
    expect(await errorOf(own.apply('add', [1, 2]))).toBeInstanceOf(PermissionError)
    expect(asked).toBe(3)
  })

  it('gets the new token of a function with the next call', async () => {
    let current = 'fp_old'
    await using pool = new Pool(farm.address, { token: () => current })
    await using own = new Pool(farm.address, { token: () => current, processes: 1 })
    for (const one of [pool, own]) expect(await errorOf(one.apply('add', [1, 2]))).toBeInstanceOf(PermissionError)
    current = tokenOf('ann')
    for (const one of [pool, own]) expect(await one.apply('add', [1, 2])).toBe(3)
  })

  it.each<[string, () => string, RegExp]>([
    [
      'throws',
      () => {
        throw new Error('the vault is closed')
      },
      /^the function token failed: the vault is closed$/,
    ],
    [
      'returns no token',
      () => 'fp_two words',
      /^what the function token returned is no token: it must be visible ASCII/,
    ],
  ])('is not called if the function %s', async (_, token, message) => {
    for (const transport of ['stream', 'unary'] as const) {
      await using pool = new Pool(farm.address, { transport, token })
      const error = await errorOf(pool.apply('add', [1, 2]))
      expect(error).toBeInstanceOf(PermissionError)
      expect(error).toMatchObject({ message: expect.stringMatching(message), started: false })
    }
  })

  it('gets a token from the command line by a file or the environment', async () => {
    const file = folder.fresh()
    writeFileSync(file, `${tokenOf('ann')}\n`)
    const run = (...args: string[]) => farpool([...args, '--address', farm.address])
    expect(await run('call', 'add', '1', '2', '--token-file', file)).toMatchObject({ code: 0, stdout: '3\n' })
    expect((await run('functions', '--token-file', file)).stdout).toContain('square')
    expect((await run('info', '--token-file', file)).code).toBe(0)
    const mapped = await farpool(['map', 'square', '--token-file', file, '--address', farm.address], '2\n3\n')
    expect(mapped.stdout).toBe('4\n9\n')
    const refused = await run('call', 'add', '1', '2')
    expect([refused.code, refused.stderr]).toEqual([1, expect.stringMatching(/no token.*\(UNAUTHENTICATED\)/)])
    process.env['FARPOOL_TOKEN'] = tokenOf('ann')
    try {
      expect((await run('call', 'add', '1', '2')).stdout).toBe('3\n')
    } finally {
      delete process.env['FARPOOL_TOKEN']
    }
    const missing = await run('call', 'add', '1', '--token-file', folder.path('nowhere'))
    expect([missing.code, missing.stderr]).toEqual([2, expect.stringContaining('cannot read --token-file')])
    const empty = folder.fresh()
    writeFileSync(empty, '\n')
    expect((await run('call', 'add', '1', '--token-file', empty)).stderr).toContain('which has no token in it')
  })
})

describe('a token', () => {
  it('does not travel unencrypted beyond this machine', async () => {
    for (const address of ['example.org:50051', '10.0.0.1:1', 'ipv4:127.0.0.1:1,10.0.0.1:1', 'dns:///name:1']) {
      const error = await errorOf(Promise.resolve().then(() => new Pool(address, { token: 'fp_secret' })))
      expect(error).toMatchObject({ name: 'BadRequestError', message: expect.stringContaining('set tls') })
      expect(error.message).not.toContain('fp_secret')
    }
  })

  it('is made by farpool token new, which prints its entry', async () => {
    const { code, stdout } = await farpool(['token', 'new', 'web', '--json'])
    const { token, entry } = JSON.parse(stdout)
    expect([code, token]).toEqual([0, expect.stringMatching(/^fp_[\w-]{43}$/)])
    const text = await farpool(['token', 'new', 'web'])
    expect(text.stdout.startsWith('fp_')).toBe(true)
    const file = folder.fresh()
    writeTokens(
      file,
      `tokens:\n${text.stdout.slice(text.stdout.indexOf('  - '))}  - ${JSON.stringify({ ...entry, name: 'json' })}\n`,
    )
    await using farm = await startFarm({ args: ['--processes', '1', '--tokens', file] })
    for (const one of [token, text.stdout.split('\n')[0]]) {
      expect(await farm.connect({ token: one }).apply('add', [1, 2])).toBe(3)
    }
    const wrong = await farpool(['token', 'new', ''])
    expect([wrong.code, wrong.stderr]).toEqual([
      2,
      expect.stringContaining('name is ""; it must be 1 to 100 characters'),
    ])
  })
})

describe('one identity', () => {
  const { options } = withTokens([entryOf('ann'), entryOf('bob')], ['--processes', '2', '--grace', '200'])
  const farm = sharedFarm(options)
  const ann = () => as(farm.stub, 'ann')
  const bob = () => as(farm.stub, 'bob')

  it("does not get the answer of another's request_id", async () => {
    const file = farm.fresh()
    const send = (who: ReturnType<typeof ann>) =>
      answer<ApplyResponse>(who.apply('appendLine', [file, 'secret'], { requestId: 'the same' }))
    await send(ann())
    await send(ann())
    expect(linesOf(file)).toBe(1)
    await send(bob())
    expect(linesOf(file)).toBe(2)
    const other = await answer<ApplyResponse>(bob().apply('add', [1, 2], { requestId: 'the same of Ann' }))
    expect(values([other.result ?? {}])).toEqual([3])
  })

  it("does not resume another's session, and may have one of the same id", async () => {
    const session = { id: '0123456789abcdef', resumed: false }
    const greet = async (who: ReturnType<typeof ann>, resumed: boolean) => {
      const stream = who.call()
      stream.on('error', () => {})
      stream.write({ ...alone, groups: [], cancelled: [], session: { ...session, resumed } })
      const greeting = await nextOf<CallResponse>(stream)
      expect(greeting.maxMessageBytes).toBeGreaterThan(0)
      return stream
    }
    const first = await greet(ann(), false)
    const file = farm.fresh()
    first.write({ ...alone, cancelled: [], groups: [group('waitFor', [one(1, file, `${file}.go`, 'of Ann')])] })
    await until(() => linesOf(file) === 1, 'it runs')
    first.cancel()
    const thief = bob().call()
    thief.write({ ...alone, groups: [], cancelled: [], session: { ...session, resumed: true } })
    expect(await endOf(thief)).toBe('SESSION_LOST')
    const own = await greet(bob(), false)
    const resumed = await greet(ann(), true)
    writeFileSync(`${file}.go`, '')
    const { outcomes } = await nextOf<CallResponse>(resumed)
    expect(values(outcomes.map(({ payload }) => payload ?? {}))).toEqual(['of Ann'])
    for (const stream of [own, resumed]) stream.cancel()
  })

  it("does not reach another's owned pool, also when it has ended", async () => {
    const lease = ann().openPool()
    const pool = await opened(lease)
    const steal = async () => {
      const { apply, ask } = bob()
      const attempts = [
        apply('pid', [], { pool }),
        ...(['getPool', 'closePool', 'joinPool', 'terminate'] as const).map((method) => ask(method, { pool })),
        (done: AnyCallback) => farm.stub.map(mapRequest('square', [[1]], { pool }), bearer(tokenOf('bob')), {}, done),
      ]
      return Promise.all(attempts.map(reasonOf))
    }
    expect(new Set(await steal())).toEqual(new Set(['POOL_NOT_FOUND']))
    const { result } = await answer<ApplyResponse>(ann().apply('add', [1, 2], { pool }))
    expect(values([result ?? {}])).toEqual([3])
    await answer(ann().ask('terminate', { pool }))
    await answer(ann().ask('joinPool', { pool }))
    expect(new Set(await steal())).toEqual(new Set(['POOL_NOT_FOUND']))
  })

  it('has its part of the workers, with however many connections', async () => {
    const module = `
      import { appendFileSync } from 'node:fs'
      export { waitFor } from ${JSON.stringify(new URL('../support/functions.mjs', import.meta.url).href)}
      export const mark = (file, name) => {
        appendFileSync(file, name + '\\n')
        for (const end = performance.now() + 5; performance.now() < end; );
      }`
    const entries = withTokens([entryOf('ann'), entryOf('bob'), entryOf('eve')])
    await using fair = await startFarm({
      ...entries.options,
      args: [...entries.options.args, '--processes', '1'],
      module,
    })
    const file = fair.fresh()
    const blocked = await waiting(fair.connect({ token: tokenOf('eve') }), fair.path('blocker'))
    const stubs = Array.from({ length: 20 }, () => makeStub(fair.address, { 'grpc.use_local_subchannel_pool': 1 }))
    const greedy = stubs.flatMap((stub) =>
      Array.from({ length: 10 }, () => answer(as(stub, 'ann').apply('mark', [file, 'ann']))),
    )
    const queued = (count: number) => until(async () => (await fair.pool.info()).queued === count, `${count} wait`)
    await queued(200)
    const modest = Array.from({ length: 10 }, () => answer(as(fair.stub, 'bob').apply('mark', [file, 'bob'])))
    await queued(210)
    writeFileSync(fair.path('blocker.go'), '')
    await Promise.all(modest)
    const before = readFileSync(file, 'utf8').split('\n').lastIndexOf('bob') + 1
    // Turn by turn it would be 20. With a turn for each connection it would be the last of 210.
    expect(before).toBeLessThan(60)
    await Promise.all([...greedy, blocked.result])
    for (const stub of stubs) stub.close()
  })
})

describe('the limit of waiting tasks of one client', () => {
  it('is that of a name with however many connections, and of each connection without a name', async () => {
    const { file } = withTokens([entryOf('ann'), entryOf('bob')])
    for (const args of [['--tokens', file], []]) {
      await using farm = await startFarm({
        args: ['--processes', '1', '--max-queued-per-client', '2', ...args],
        options: args.length > 0 ? { token: tokenOf('bob') } : {},
      })
      const blocked = await waiting(farm.pool, farm.path('blocker'))
      const queued = (count: number) => until(async () => (await farm.pool.info()).queued === count, `${count} wait`)
      const [first, second] = [1, 2].map(() => makeStub(farm.address, { 'grpc.use_local_subchannel_pool': 1 })) as [
        Stub,
        Stub,
      ]
      const send = (stub: Stub) => answer<ApplyResponse>(as(stub, 'ann').apply('add', [1, 2]))
      const calls = [send(first), send(first)]
      await queued(2)
      const third = send(second)
      if (args.length > 0) await expect(third.catch(reasonIn)).resolves.toBe('QUEUE_FULL')
      else {
        calls.push(third)
        await queued(3)
      }
      writeFileSync(farm.path('blocker.go'), '')
      await Promise.all([...calls, blocked.result])
      for (const stub of [first, second]) stub.close()
    }
  })
})

describe('an initializer', () => {
  const initialized = ['--processes', '1', '--initializer', 'initialize', '--initargs', '["operator"]']
  const farm = sharedFarm({ args: initialized })

  it('cannot be called, is not listed and not suggested, without any tokens', async () => {
    expect(await errorOf(farm.pool.apply('initialize', ['attacker']))).toMatchObject({
      name: 'PermissionError',
      message: 'the function "initialize" may not be called',
    })
    expect(await reasonOf((done) => farm.stub.apply(request('initialize', 1), done))).toBe('PERMISSION_DENIED')
    expect(await errorOf(farm.pool.map('initialize', [1]))).toBeInstanceOf(PermissionError)
    expect(await farm.pool.apply('initializedWith')).toEqual(['operator'])
    expect((await farm.pool.functions()).map(({ name }) => name)).not.toContain('initialize')
    const { message } = await errorOf(farm.pool.apply('initialise'))
    expect(message).not.toMatch(/mean initialize/)
  })

  it('may be that of an owned pool', async () => {
    await using own = farm.connect({ processes: 1, initializer: 'initialize', initargs: ['mine'] })
    expect(await own.apply('initializedWith')).toEqual(['mine'])
    expect(await errorOf(own.apply('initialize', ['again']))).toBeInstanceOf(PermissionError)
  })

  it('may be called where the rules name it, and not by a wildcard', async () => {
    const entries = [
      entryOf('ann', { functions: ['*'] }),
      entryOf('bob', { functions: ['initialize', 'initializedWith'] }),
    ]
    const { options } = withTokens(entries, initialized)
    await using ruled = await startFarm(options)
    expect(await errorOf(ruled.pool.apply('initialize', ['ann']))).toBeInstanceOf(PermissionError)
    const bob = ruled.connect({ token: tokenOf('bob') })
    await bob.apply('initialize', ['bob'])
    expect(await bob.apply('initializedWith')).toEqual(['bob'])
  })

  it('of an owned pool must be in the functions of the rules', async () => {
    const entries = [
      entryOf('ann', { functions: ['add'] }),
      entryOf('bob', { functions: ['*'] }),
      entryOf('dan', { functions: ['initialize'] }),
      entryOf('eve'),
    ]
    await using ruled = await startFarm(withTokens(entries, initialized).options)
    const leaseOf = (name: string) => as(ruled.stub, name).openPool({ initializer: 'initialize' })
    expect(await endOf(leaseOf('ann'))).toBe('PERMISSION_DENIED')
    expect(await endOf(leaseOf('bob'))).toBe('PERMISSION_DENIED')
    for (const name of ['dan', 'eve']) {
      const lease = leaseOf(name)
      expect(await opened(lease)).toMatch(/^pool-/)
      lease.cancel()
    }
  })

  it('is one in its own pool only, also with tokens', async () => {
    const [module, config] = [folder.fresh(), folder.fresh()]
    writeFileSync(`${module}.mjs`, 'export const prepare = () => "called"; export const work = () => "worked"')
    writeFileSync(
      `${config}.yaml`,
      JSON.stringify({ processes: 1, pools: { images: { modules: [`${module}.mjs`], initializer: 'prepare' } } }),
    )
    const { options } = withTokens(
      [entryOf('ann'), entryOf('bob', { functions: ['prep*'] })],
      ['--config', `${config}.yaml`],
    )
    await using farm = await startFarm({ ...options, module: 'export const prepare = () => "called"' })
    const names = async (pool: Pool) => (await pool.functions()).map(({ name }) => name)
    for (const name of ['ann', 'bob']) {
      const token = tokenOf(name)
      const byDefault = farm.connect({ token })
      expect(await byDefault.apply('prepare')).toBe('called')
      expect(await names(byDefault)).toEqual(['prepare'])
      const images = farm.connect({ token, pool: 'images' })
      expect(await errorOf(images.apply('prepare'))).toBeInstanceOf(PermissionError)
      expect(await names(images)).toEqual(name === 'ann' ? ['work'] : [])
    }
    const own = farm.connect({ token: tokenOf('ann'), pool: 'images', processes: 1 })
    expect(await errorOf(own.apply('prepare'))).toBeInstanceOf(PermissionError)
    expect(await own.apply('work')).toBe('worked')
  })
})

describe('rules', () => {
  const rules = [
    entryOf('ann', { functions: ['add', 's*re', 'waitFor'], pools: 1, processes: 2, queued: 2, connections: 2 }),
    entryOf('bob', { terminate: true }),
    entryOf('eve', { functions: [] }),
  ]
  const { options } = withTokens(rules, ['--processes', '1', '--grace', '200'])
  const farm = sharedFarm(options)

  it('say which functions may be called, and nothing tells of the others', async () => {
    expect(await farm.pool.apply('add', [1, 2])).toBe(3)
    expect(await farm.pool.apply('square', [3])).toBe(9)
    for (const name of ['pid', 'power', 'nowhere', 'add2', 'squares', '']) {
      const error = await errorOf(farm.pool.apply(name))
      expect([error.name, error.message]).toEqual(['PermissionError', `the function "${name}" may not be called`])
      expect(error.metadata).toEqual({ function: name })
    }
    const typo = await errorOf(farm.pool.apply('sqare', [3]))
    expect(typo).toBeInstanceOf(UnknownFunctionError)
    expect(typo.message).toContain('did you mean square?')
    const unknown = await errorOf(farm.pool.apply('s-very-different-re'))
    expect(unknown.message).toMatch(/registered: add, square, waitFor$/)
    const names = ({ functions }: ListFunctionsResponse) => functions.map(({ name }) => name)
    expect(names(await answer(as(farm.stub, 'ann').ask('listFunctions')))).toEqual(['add', 'square', 'waitFor'])
    expect(names(await answer(as(farm.stub, 'eve').ask('listFunctions')))).toEqual([])
    expect(names(await answer(as(farm.stub, 'bob').ask('listFunctions')))).toContain('pid')
    for (const initializer of ['initialize', 'nowhere']) {
      expect(await endOf(as(farm.stub, 'ann').openPool({ initializer }))).toBe('PERMISSION_DENIED')
    }
    expect(await endOf(as(farm.stub, 'ann').openPool({ initializer: 'sure' }))).toBe('FUNCTION_NOT_FOUND')
  })

  it.each(['stream', 'unary'] as const)(
    'end a whole map or imap of a function that may not be called (%s)',
    async (transport) => {
      await using pool = new Pool(farm.address, { transport, token: tokenOf('ann') })
      const forbidden = { name: 'PermissionError', reason: 'PERMISSION_DENIED', index: undefined }
      for (const options of [{}, { settle: true, chunksize: 1 }] as const) {
        expect(await errorOf(pool.map('power', [1, 2, 3], options))).toMatchObject(forbidden)
        const results = pool.imap('power', [1, 2, 3], options)
        expect(await errorOf(results.next())).toMatchObject(forbidden)
        expect(await results.next()).toEqual({ done: true, value: undefined })
      }
    },
  )

  it('hide what others run', async () => {
    const bob = farm.connect({ token: tokenOf('bob') })
    const file = farm.fresh()
    const running = bob.applyAsync('untilAborted', [file])
    await until(() => linesOf(file) === 1, 'it runs')
    const functionsOf = async (name: string) =>
      (await answer<GetPoolResponse>(as(farm.stub, name).ask('getPool'))).workers.map(({ function: ran }) => ran)
    expect(await functionsOf('bob')).toEqual(['untilAborted'])
    expect(await functionsOf('ann')).toEqual([''])
    running.cancel()
    await errorOf(running)
  })

  it('limit owned pools and their processes', async () => {
    const { openPool } = as(farm.stub, 'ann')
    expect(await endOf(openPool({ processes: 3 }))).toBe('QUEUE_FULL')
    const lease = openPool({ processes: 2 })
    await opened(lease)
    expect(await endOf(openPool())).toBe('QUEUE_FULL')
    lease.cancel()
    await until(async () => {
      const next = openPool()
      const end = await Promise.race([opened(next).catch(() => ''), endOf(next)])
      next.cancel()
      return end?.startsWith('pool-') ?? false
    }, 'another pool may be opened')
  })

  it('limit connections', async () => {
    await using other = await startFarm(withTokens(rules, ['--processes', '1']).options)
    const connect = () => makeStub(other.address, { 'grpc.use_local_subchannel_pool': 1 })
    const outcome = (stub: Stub) =>
      answer(as(stub, 'ann').apply('add', [1, 2])).then(
        () => 'answered',
        (error) => reasonIn(error),
      )
    const [first, second, third] = [connect(), connect(), connect()]
    const outcomes = [await outcome(first), await outcome(second), await outcome(third)]
    expect(outcomes).toEqual(['answered', 'answered', 'QUEUE_FULL'])
    first.close()
    await until(async () => (await outcome(third)) === 'answered', 'a closed connection makes room')
    for (const stub of [second, third]) stub.close()
  })

  it('limit the tasks that wait: RPCs are refused, and a stream is read no further', async () => {
    const file = farm.fresh()
    const { result } = await waiting(farm.pool, file)
    const behind = [1, 2].map((x) => farm.pool.applyAsync('waitFor', [file, `${file}.go`, x]))
    const queued = async () => (await answer<GetPoolResponse>(as(farm.stub, 'bob').ask('getPool'))).queued
    await until(async () => (await queued()) === 2, 'two wait')
    const { apply, call } = as(farm.stub, 'ann')
    const refused = await failure(apply('add', [1, 2]))
    expect([refused.failure?.reason, refused.failure?.metadata]).toEqual([
      'QUEUE_FULL',
      { limit: '2', of: 'client', what: 'tasks' },
    ])
    await using unary = new Pool(farm.address, { token: tokenOf('ann'), transport: 'unary' })
    expect(await errorOf(unary.apply('add', [1, 2], undefined, { timeout: 200 }))).toBeInstanceOf(LimitError)
    // Another stream of Ann: its first message has been read when it is found out whose it is.
    const stream = call()
    const outcomes: unknown[] = []
    stream.on('data', (response: CallResponse) =>
      outcomes.push(...response.outcomes.map(({ payload }) => payload ?? {})),
    )
    stream.write({ ...alone, cancelled: [], groups: [group('add', [one(1, 1, 1)])] })
    await until(async () => (await queued()) === 3, 'its first call waits, too')
    stream.write({ ...alone, cancelled: [], groups: [group('add', [one(2, 2, 2)])] })
    // These come over the same connection, behind the second call.
    for (let i = 0; i < 3; i++) expect(await queued()).toBe(3)
    const ended = once(stream, 'end')
    stream.end()
    writeFileSync(`${file}.go`, '')
    expect(await Promise.all([result, ...behind])).toEqual(['went on', 1, 2])
    await ended
    expect(values(outcomes as [])).toEqual([2, 4])
  })

  it('limit the tasks that wait of a map that has begun, and of a stream with a large message', async () => {
    const file = farm.fresh()
    const { result } = await waiting(farm.pool, file)
    const queued = async () => (await answer<GetPoolResponse>(as(farm.stub, 'bob').ask('getPool'))).queued
    const chunks = Array.from({ length: 10 }, (_, i) => [i])
    const mapped = answer<MapResponse>((done) =>
      farm.stub.map(mapRequest('square', chunks), bearer(tokenOf('ann')), {}, done),
    )
    await until(async () => (await queued()) > 0, 'its first chunks wait')
    expect(await queued()).toBe(2)
    const stream = as(farm.stub, 'ann').call()
    const refused: string[] = []
    let answered = 0
    stream.on('data', ({ outcomes }: CallResponse) => {
      answered += outcomes.length
      for (const { failures } of outcomes)
        for (const { status: of } of failures) if (of) refused.push(statusToFailure(of).reason)
    })
    const calls = Array.from({ length: FRAME_CALLS + 10 }, (_, i) => one(i + 1, i, i))
    const ended = once(stream, 'end')
    stream.write({ ...alone, cancelled: [], groups: [group('add', calls)] })
    stream.end()
    await until(() => refused.length > 0, 'its last calls are refused')
    expect(await queued()).toBe(2 + FRAME_CALLS)
    writeFileSync(`${file}.go`, '')
    expect(await result).toBe('went on')
    expect(values((await mapped).chunks)).toEqual(chunks.map(([i = 0]) => [i * i]))
    await ended
    expect([answered, refused]).toEqual([calls.length, Array(10).fill('QUEUE_FULL')])
  })

  it('let one terminate the shared pool, and not another', async () => {
    await using other = await startFarm(
      withTokens([...rules, entryOf('dan')], ['--processes', '1', '--allow-terminate']).options,
    )
    await using strict = await startFarm(withTokens(rules, ['--processes', '1']).options)
    expect(await reasonOf(as(strict.stub, 'ann').ask('terminate'))).toBe('PERMISSION_DENIED')
    await answer(as(strict.stub, 'bob').ask('terminate'))
    await answer(as(other.stub, 'dan').ask('terminate'))
  })
})
