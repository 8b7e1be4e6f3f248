import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { getPriority } from 'node:os'
import { Pool } from 'farpool'
import { afterAll, describe, expect, it } from 'vitest'
import { startFarm } from '../support/farm.js'
import { temporaryFolder, until } from '../support/server.js'

/** The different nice values of the threads of a process. */
function nicenessOf(pid: number): number[] {
  const threads = readdirSync(`/proc/${pid}/task`).map((thread) => {
    const [, fields = ''] = /^\d+ \(.*\) (.*)$/s.exec(readFileSync(`/proc/${pid}/task/${thread}/stat`, 'utf8')) ?? []
    return Number(fields.split(' ')[16])
  })
  return [...new Set(threads)]
}

/** The nice value of the session of a process. Undefined if the kernel does not group processes by session. */
const nicenessOfSession = (pid: number): number | undefined => {
  const file = `/proc/${pid}/autogroup`
  const text = existsSync(file) ? readFileSync(file, 'utf8') : ''
  return text === '' ? undefined : Number(/nice (-?\d+)/.exec(text)?.[1])
}

const folder = temporaryFolder()
afterAll(() => folder.remove())
/** Two files for the initializer `waitFor`: it writes its process id into the first and waits for the second. */
const waits = (name: string) => [folder.path(name), folder.path(`${name}.go`)] as const
const pidIn = async (file: string): Promise<number> => {
  await until(() => existsSync(file) && readFileSync(file, 'utf8').endsWith('\n'), 'its initializer has begun')
  return Number(readFileSync(file, 'utf8'))
}

describe.runIf(process.platform === 'linux')('a worker', () => {
  const own = getPriority()

  it.each([
    ['has a nice value 5 above its server', [], 5],
    ['has a nice value 7 above its server with --worker-nice 7', ['--worker-nice', '7'], 7],
    ['has the nice value of its server with --worker-nice 0', ['--worker-nice', '0'], 0],
    ['has the highest nice value with --worker-nice 19', ['--worker-nice', '19'], 19],
  ])('%s', async (_, args, more) => {
    await using farm = await startFarm({ args: ['--processes', '2', ...args] })
    const { server, pool: client } = farm
    await using ofItsOwn = new Pool(server.address, { processes: 1 })
    expect(nicenessOf(server.pid)).toEqual([own])
    for (const pool of [client, ofItsOwn]) {
      const pid = (await pool.apply('pid')) as number
      expect(nicenessOf(pid)).toEqual([Math.min(19, own + more)])
      if (more === 0 || nicenessOfSession(pid) === undefined) continue
      await until(() => nicenessOfSession(pid) === Math.min(19, own + more), 'its session is weighed so')
    }
  })

  it('of the shared pool starts with the nice value of its server', async () => {
    const [begun, go] = waits('shared')
    writeFileSync(go, '')
    const initialized = ['--initializer', 'waitFor', '--initargs', JSON.stringify([begun, go])]
    await using farm = await startFarm({ args: ['--processes', '1', ...initialized] })
    const { pool: client } = farm
    const first = (await client.apply('pid')) as number
    rmSync(begun)
    rmSync(go)
    process.kill(first, 'SIGKILL')
    const second = await pidIn(begun)
    expect(nicenessOf(second)).toEqual([own])
    writeFileSync(go, '')
    expect(await client.apply('pid')).toBe(second)
    expect(nicenessOf(second)).toEqual([Math.min(19, own + 5)])
  })

  it('of an owned pool starts with a higher nice value than its server', async () => {
    const [begun, go] = waits('owned')
    await using farm = await startFarm({
      args: ['--processes', '1'],
      options: { processes: 1, initializer: 'waitFor', initargs: [begun, go] },
    })
    const { pool: ofItsOwn } = farm
    const called = ofItsOwn.apply('pid')
    const pid = await pidIn(begun)
    expect(nicenessOf(pid)).toEqual([Math.min(19, own + 5)])
    writeFileSync(go, '')
    expect(await called).toBe(pid)
  })
})
