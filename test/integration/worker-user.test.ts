import { spawnSync } from 'node:child_process'
import { chmodSync, writeFileSync } from 'node:fs'
import { getPriority } from 'node:os'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { resolveConfig } from '../../server/resolve-config.js'
import { errorOf } from '../support/calls.js'
import { Farm } from '../support/farm.js'
import { CLI, FUNCTIONS, isAlive, ServerProcess, temporaryFolder } from '../support/server.js'

/** Workers that run as another user than their server. */

const isRoot = process.getuid?.() === 0
const [UID, GID] = [65_534, 65_533]

/** Why these tests cannot run here: only root has workers of another user, and that user must reach Node and this build. */
const why = !isRoot
  ? ' (not here: it needs root)'
  : spawnSync(process.execPath, [CLI, '--version'], { uid: UID, gid: GID, cwd: '/' }).status === 0
    ? ''
    : ' (not here: another user cannot read Node or this folder)'

const MODULE = `
  import { readFileSync } from 'node:fs'
  import { homedir } from 'node:os'
  export const who = () => ({
    uid: process.getuid(), gid: process.getgid(), groups: process.getgroups(), home: homedir(), pid: process.pid,
  })
  export const read = (file) => readFileSync(file, 'latin1')
  export const echo = (value) => value
  export const spin = () => { for (;;); }
  export const fillHeap = () => { for (const kept = [];;) kept.push(new Array(100_000).fill({})) }`

describe.skipIf(why !== '')(`workers of another user${why}`, () => {
  const folder = temporaryFolder()
  const farm = new Farm({
    args: ['--processes', '1', '--grace', '100', '--max-heap-mb', '40', '--worker-user', `${UID}:${GID}`],
    module: MODULE,
    prefix: ['env', 'APP_SECRET=s3cret'],
  })
  beforeAll(async () => {
    // A temporary folder belongs to its user alone.
    chmodSync(folder.path('.'), 0o755)
    chmodSync(farm.path('.'), 0o755)
    writeFileSync(folder.path('secret'), 's3cret', { mode: 0o600 })
    await farm.start()
  })
  afterAll(async () => {
    await farm[Symbol.asyncDispose]()
    folder.remove()
  })

  const who = async () => (await farm.pool.apply('who')) as Record<string, unknown>

  it('have its user and group only, and its home', async () => {
    const { home, ...ids } = await who()
    expect(ids).toMatchObject({ uid: UID, gid: GID, groups: [GID] })
    expect(home).not.toBe('/root')
  })

  it('cannot read the environment, the memory or the files of the server', async () => {
    for (const file of [`/proc/${farm.server.pid}/environ`, `/proc/${farm.server.pid}/mem`, folder.path('secret')]) {
      expect((await errorOf(farm.pool.apply('read', [file]))).message).toContain('EACCES')
    }
  })

  it('get large values, are niced, and are killed', async () => {
    const large = Buffer.alloc(3_000_000, 7)
    expect(large.equals((await farm.pool.apply('echo', [large])) as Uint8Array)).toBe(true)
    const { pid } = await who()
    expect(getPriority(pid as number)).toBe(Math.min(19, getPriority() + 5))
    expect(await errorOf(farm.pool.apply('spin', [], undefined, { timeout: 300 }))).toMatchObject({
      reason: 'TASK_TIMEOUT',
    })
    expect((await who())['pid']).not.toBe(pid)
    expect(isAlive(pid as number)).toBe(false)
  })

  it('tell that their heap was full', async () => {
    expect(await errorOf(farm.pool.apply('fillHeap'))).toMatchObject({
      reason: 'WORKER_OOM',
      metadata: { memory: 'heap' },
    })
  })

  it('are not needed silently: the log says that functions run as root', async () => {
    await using server = await ServerProcess.start(['--processes', '1'])
    const line = await server.logged(({ msg }) => msg.startsWith('functions run as root'))
    expect(line.level).toBe(40)
    expect(farm.server.log.filter(({ msg }) => msg.startsWith('functions run as root'))).toEqual([])
  })
})

describe('--worker-user', () => {
  it.each(['nobody', '1000', '0:0', '1000:', '-1:1', '99999999999:1'])('cannot be %j', (workerUser) => {
    expect(() => resolveConfig({ modules: [FUNCTIONS], workerUser })).toThrow(
      `worker-user is ${JSON.stringify(workerUser)}; it must be the numbers of a user other than root`,
    )
  })

  it.skipIf(isRoot)('needs root', () => {
    const resolve = () => resolveConfig({ modules: [FUNCTIONS], workerUser: '1000:1000' })
    expect(resolve).toThrow('only root may start workers as another user')
  })
})
