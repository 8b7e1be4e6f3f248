import { once } from 'node:events'
import { chmodSync, existsSync, mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { type ServiceError, status } from '@grpc/grpc-js'
import { PermissionError } from 'farpool'
import { afterAll, describe, expect, it } from 'vitest'
import type { OpenPoolResponse } from '../../proto/gen/farpool/v1/pool_service.js'
import { APPLY } from '../attack/requests.js'
import { errorOf, linesOf, workerPids } from '../support/calls.js'
import { startFarm } from '../support/farm.js'
import { frame } from '../support/raw-call.js'
import { RawClient } from '../support/raw-unary.js'
import { FUNCTIONS, farpool, isAlive, ServerProcess, temporaryFolder, until } from '../support/server.js'
import { alone, answer, bearer, failure, group, mapRequest, nextOf, one, request } from '../support/stub.js'
import { entryOf, sha256, tokenOf, writeTokens } from '../support/tokens.js'

/** The file of --tokens while a server runs with it, and files that it does not take. */

const folder = temporaryFolder()
afterAll(() => folder.remove())

const ANN_AND_BOB = [entryOf('ann'), entryOf('bob')]

async function start(content: readonly object[] = ANN_AND_BOB, file = folder.fresh()) {
  writeTokens(file, content)
  const args = ['--tokens', file, '--processes', '6', '--grace', '100', '--reflection']
  const farm = await startFarm({ args, options: { token: tokenOf('bob') } })
  /** Whether calls with this token are answered. */
  const isKnown = async (token: string) => {
    const { error } = await failure((done) => farm.stub.apply(request('add', 1, 2), bearer(token), {}, done)).catch(
      () => ({ error: undefined }),
    )
    return !(error instanceof Error) || error.code !== status.UNAUTHENTICATED
  }
  return { farm, file, isKnown, [Symbol.asyncDispose]: () => farm[Symbol.asyncDispose]() }
}

const statusOf = (call: { on(event: 'status', listener: (end: { code: number }) => void): unknown }) =>
  new Promise<number>((resolve) => call.on('status', ({ code }) => resolve(code)))

describe('a token that is revoked', () => {
  it('ends streams, maps, leases, named calls and sessions of its identity, and nothing else', async () => {
    await using setting = await start()
    const { farm, file } = setting
    const begun = Array.from({ length: 5 }, () => farm.fresh())
    const [inStream = '', inMap = '', named = '', detached = '', ofBob = ''] = begun
    const ann = farm.connect({ token: tokenOf('ann') })
    const stream = errorOf(ann.apply('untilAborted', [inStream]))
    const metadata = () => bearer(tokenOf('ann'))
    const map = farm.stub.map(mapRequest('untilAborted', [[inMap]]), metadata(), {}, () => {})
    const call = farm.stub.apply(
      { ...request('untilAborted', named), requestId: 'named by Ann' },
      metadata(),
      {},
      () => {},
    )
    const session = farm.stub.call(metadata())
    session.on('error', () => {})
    const greeting = { ...alone, groups: [], cancelled: [] }
    session.write({ ...greeting, session: { id: 'the session of Ann', resumed: false } })
    await nextOf(session)
    session.write({ ...greeting, groups: [group('untilAborted', [one(1, detached)])] })
    const lease = farm.stub.openPool(
      { sharedPool: '', processes: 1, initializer: '', initargs: [], maxtasksperchild: undefined },
      metadata(),
    )
    lease.on('error', () => {})
    const { event } = await nextOf<OpenPoolResponse>(lease)
    const pool = event?.$case === 'opened' ? event.value.pool : ''
    const { result } = await answer<{ result: { kind: { value: string } } }>((done) =>
      farm.stub.apply({ ...request('pid'), pool }, metadata(), {}, done),
    )
    const worker = Number(result.kind.value)
    const bob = farm.pool.applyAsync('waitFor', [ofBob, `${ofBob}.go`, 'of Bob'])
    await until(() => begun.every((one) => linesOf(one) === 1), 'all have begun')
    session.cancel()
    const ends = [map, call, lease].map(statusOf)
    lease.resume()
    writeTokens(file, [entryOf('bob')])
    const error = await stream
    expect(error).toBeInstanceOf(PermissionError)
    expect(error).toMatchObject({
      reason: 'UNAUTHENTICATED',
      message: 'the token of "ann" was revoked',
      started: undefined,
    })
    expect(await Promise.all(ends)).toEqual(Array(3).fill(status.UNAUTHENTICATED))
    await until(() => !isAlive(worker), 'the worker of the owned pool is gone')
    for (const one of [inStream, inMap, named, detached]) await until(() => linesOf(one) === 2, 'its function was told')
    expect(await errorOf(ann.apply('add', [1, 2]))).toMatchObject({ reason: 'UNAUTHENTICATED', started: false })
    writeFileSync(`${ofBob}.go`, '')
    expect(await bob).toBe('of Bob')
    expect((await workerPids(farm.pool)).length).toBe(6)
  })

  // The body of a ServerReflectionRequest that asks for the list of services.
  const question = frame(Buffer.of(0x3a, 0))
  it.each<[string, string, Uint8Array]>([
    ['reflection', '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo', question],
    ['a stream of calls that has sent nothing', '/farpool.v1.PoolService/Call', Buffer.alloc(0)],
    ['an Apply without its request', APPLY, Buffer.alloc(0)],
  ])('ends %s', async (_, path, request) => {
    await using setting = await start()
    const { farm, file } = setting
    using ann = new RawClient(farm.address)
    const { stream, answer } = ann.open({ path, headers: { authorization: `Bearer ${tokenOf('ann')}` } })
    stream.write(request)
    if (request.length > 0) await once(stream, 'data')
    // The server has read what came before.
    await new Promise((resolve) => ann.session.ping(resolve))
    writeTokens(file, [entryOf('bob')])
    expect(await answer).toMatchObject({ status: '16', message: 'the token of "ann" was revoked' })
  })

  it.each(['apply', 'map'] as const)('ends an abandoned %s with a request_id', async (method) => {
    const tokens = ['fp_old', 'fp_new']
    const web = (...now: string[]) => [{ name: 'web', sha256: now.map(sha256) }]
    await using setting = await start(web(...tokens))
    const { farm, file, isKnown } = setting
    const begun = farm.fresh()
    const requestId = 'the id of both'
    const send = (token: string, done: (error: ServiceError | null, response?: unknown) => void) =>
      method === 'apply'
        ? farm.stub.apply({ ...request('untilAborted', begun), requestId }, bearer(token), {}, done)
        : farm.stub.map(mapRequest('untilAborted', [[begun]], { requestId }), bearer(token), {}, done)
    const left = new Promise((resolve) => {
      const call = send('fp_old', resolve)
      void until(() => linesOf(begun) === 1, 'it runs').then(() => call.cancel())
    })
    expect(await left).toMatchObject({ code: status.CANCELLED })
    expect(await isKnown('fp_old')).toBe(true)
    writeTokens(file, web('fp_new'))
    await until(async () => !(await isKnown('fp_old')), 'the old token is revoked')
    const { error } = await failure((done) => send('fp_new', done))
    expect(error).toMatchObject({ code: status.UNAUTHENTICATED, details: 'the token of "web" was revoked' })
  })

  it('is one of several, and the others go on', async () => {
    const tokens = ['fp_old', 'fp_new']
    const web = (...now: string[]) => [{ name: 'web', sha256: now.map(sha256) }, entryOf('bob')]
    await using setting = await start(web(...tokens))
    const { farm, file, isKnown } = setting
    for (const token of tokens) expect(await isKnown(token)).toBe(true)
    const begun = farm.fresh()
    const going = farm.connect({ token: 'fp_new' }).applyAsync('waitFor', [begun, `${begun}.go`, 'went on'])
    await until(() => existsSync(begun), 'it runs')
    writeTokens(file, web('fp_new'))
    await until(async () => !(await isKnown('fp_old')), 'the old token is revoked')
    expect(await isKnown('fp_new')).toBe(true)
    writeFileSync(`${begun}.go`, '')
    expect(await going).toBe('went on')
  })
})

describe('a changed file of tokens', () => {
  it('is found behind a link that leads elsewhere, as in Kubernetes', async () => {
    const path = folder.fresh()
    for (const [name, entries] of Object.entries({ one: ANN_AND_BOB, two: [entryOf('bob')] })) {
      mkdirSync(`${path}/${name}`, { recursive: true })
      writeTokens(`${path}/${name}/tokens.yaml`, entries)
    }
    symlinkSync('one', `${path}/data`)
    symlinkSync('data/tokens.yaml', `${path}/tokens.yaml`)
    const args = ['--processes', '1', '--tokens', `${path}/tokens.yaml`]
    await using farm = await startFarm({ args, options: { token: tokenOf('ann') } })
    expect(await farm.pool.apply('add', [1, 2])).toBe(3)
    symlinkSync('two', `${path}/data.new`)
    renameSync(`${path}/data.new`, `${path}/data`)
    await until(async () => {
      const outcome = await Promise.resolve(farm.pool.apply('add', [1, 2])).catch((error: ServiceError) => error)
      return outcome instanceof PermissionError
    }, 'the token is revoked')
  })

  it('changes rules for the next calls', async () => {
    await using setting = await start()
    const { farm, file } = setting
    expect(await farm.pool.apply('add', [1, 2])).toBe(3)
    writeTokens(file, [entryOf('ann'), entryOf('bob', { functions: ['square'] })])
    await until(async () => {
      const outcome: unknown = await Promise.resolve(farm.pool.apply('add', [1, 2])).catch((error) => error)
      return outcome instanceof PermissionError
    }, 'the rule is in force')
    expect(await farm.pool.apply('square', [3])).toBe(9)
  })

  it.each<[string, (file: string) => void, string]>([
    ['is broken', (file) => writeTokens(file, 'tokens: ['), 'tokens.yaml:1:'],
    ['is empty', (file) => writeTokens(file, ''), 'must be an array with an entry'],
    ['has gone', (file) => rmSync(file), 'cannot be read'],
    ['is open to every user', (file) => chmodSync(file, 0o644), 'chmod 640'],
  ])('leaves the old one in force if it %s, and the log says so once', async (_, change, why) => {
    const path = folder.fresh()
    mkdirSync(path)
    await using setting = await start(ANN_AND_BOB, `${path}/tokens.yaml`)
    const { farm, file, isKnown } = setting
    change(file)
    const isFault = ({ msg }: { msg: string }) => msg.includes('the old one stays') && msg.includes(why)
    await farm.server.logged(isFault)
    expect(await isKnown(tokenOf('ann'))).toBe(true)
    if (!existsSync(file)) writeTokens(file, ANN_AND_BOB)
    writeTokens(file, [entryOf('ann')])
    await until(async () => !(await isKnown(tokenOf('bob'))), 'the right file is in force again')
    expect(farm.server.log.filter(isFault)).toHaveLength(1)
  })
})

describe('a file of tokens', () => {
  const digest = sha256('fp_x')
  it.each<[string, string | readonly object[], RegExp]>([
    [
      'an unknown key',
      [{ ...entryOf('ann'), function: ['a'] }],
      /tokens\[0\] \("ann"\): there is no option function; did you mean functions\?/,
    ],
    ['an unknown key beside the entries', `token: []`, /there is no option token; did you mean tokens\?/],
    ['no entries', [], /tokens in .* is \[\]; it must be an array with an entry/],
    ['an entry that is none', 'tokens: [web]', /tokens\[0\] is "web"; it must be an object/],
    ['an entry without a name', [{ sha256: digest }], /tokens\[0\]: name is missing; it must be given/],
    ['an empty name', [{ name: '', sha256: digest }], /name is ""; it must be 1 to 100 characters/],
    [
      'a duplicate name',
      [entryOf('ann'), entryOf('ann')],
      /tokens\[1\]: duplicate name "ann"; one entry may have several tokens/,
    ],
    [
      'a token twice',
      [entryOf('ann'), { ...entryOf('ann'), name: 'bob' }],
      /tokens\[1\] \("bob"\): its token is also one of "ann"/,
    ],
    [
      'a token instead of its digest',
      [{ name: 'ann', sha256: 'fp_x' }],
      /sha256 is of the wrong form; it must be the 64 hexadecimal digits/,
    ],
    [
      'a digest that is a number',
      `tokens: [{ name: ann, sha256: ${'1'.repeat(64)} }]`,
      /sha256 is of the wrong form; it must be the 64/,
    ],
    ['a digest that is too long', [{ name: 'ann', sha256: [`${digest}0`] }], /sha256 is of the wrong form/],
    [
      'a wrong type',
      [{ ...entryOf('ann'), queued: '10' }],
      /\("ann"\): queued is "10"; it must be an integer, 1 or more/,
    ],
    ['a wrong list', [{ ...entryOf('ann'), functions: 'add' }], /functions is "add"; it must be an array of names/],
    ['a wrong boolean', [{ ...entryOf('ann'), terminate: 'yes' }], /terminate is "yes"; it must be true or false/],
    ['a syntax error', 'tokens:\n  - name: "ann', /:\d+:\d+: Missing closing "quote/],
    ['no object', '[]', /the content of .* is \[\]; it must be an object/],
  ])('with %s keeps a server from starting, and its error says what would be right', async (_, content, message) => {
    const file = folder.fresh()
    writeTokens(file, content)
    const error = await startError(file)
    expect(error).toMatch(message)
    expect(error).toContain(file)
    expect(error).not.toContain('fp_x')
  })

  it('must not be open to every user, and must be there', async () => {
    const file = folder.fresh()
    writeTokens(file, ANN_AND_BOB)
    chmodSync(file, 0o644)
    expect(await startError(file)).toContain(`${file} is open to every user (mode 644); run: chmod 640 ${file}`)
    expect(await startError(folder.path('nowhere'))).toMatch(/nowhere cannot be read: ENOENT/)
    await expect(ServerProcess.start(['--tokens', file])).rejects.toThrow(`run: chmod 640 ${file}`)
  })
})

/** What the command line says of a file that no server would take. */
async function startError(file: string): Promise<string> {
  const { code, stderr } = await farpool(['check', FUNCTIONS, '--tokens', file])
  expect(code).toBe(2)
  return stderr
}
