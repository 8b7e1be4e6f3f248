import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { getPriority } from 'node:os'
import { Pool } from 'farpool'
import { afterAll, describe, expect, it } from 'vitest'
import { ServerProcess, temporaryFolder, until } from '../support/server.js'

/** Of all threads of a process, as far as they differ. */
function nicenessOf(pid: number): number[] {
  const threads = readdirSync(`/proc/${pid}/task`).map((thread) => {
    const [, fields = ''] = /^\d+ \(.*\) (.*)$/s.exec(readFileSync(`/proc/${pid}/task/${thread}/stat`, 'utf8')) ?? []
    return Number(fields.split(' ')[16])
  })
  return [...new Set(threads)]
}

/** Undefined where the kernel does not group by session. */
const nicenessOfSession = (pid: number): number | undefined => {
  const file = `/proc/${pid}/autogroup`
  const text = existsSync(file) ? readFileSync(file, 'utf8') : ''
  return text === '' ? undefined : Number(/nice (-?\d+)/.exec(text)?.[1])
}

const folder = temporaryFolder()
afterAll(() => folder.remove())
/** For `waitFor`, as an initializer: where it writes its process id, and what it waits for. */
const waits = (name: string) => [folder.path(name), folder.path(`${name}.go`)] as const
const pidIn = async (file: string): Promise<number> => {
  await until(() => existsSync(file) && readFileSync(file, 'utf8').endsWith('\n'), 'its initializer has begun')
  return Number(readFileSync(file, 'utf8'))
}

describe.runIf(process.platform === 'linux')('the CPU that server and workers both want', () => {
  const own = getPriority()

  it.each([
    ["is the server's", [], 5],
    ["is the server's by as much as its operator says", ['--worker-nice', '7'], 7],
    ['is shared where there is no difference', ['--worker-nice', '0'], 0],
    ["is the server's by as much as there is", ['--worker-nice', '19'], 19],
  ])('%s', async (_, args, more) => {
    await using server = await ServerProcess.start(['--processes', '2', ...args])
    await using client = new Pool(server.address)
    await using ofItsOwn = new Pool(server.address, { processes: 1 })
    expect(nicenessOf(server.pid)).toEqual([own])
    for (const pool of [client, ofItsOwn]) {
      const pid = (await pool.apply('pid')) as number
      expect(nicenessOf(pid)).toEqual([Math.min(19, own + more)])
      if (more === 0 || nicenessOfSession(pid) === undefined) continue
      await until(() => nicenessOfSession(pid) === Math.min(19, own + more), 'its session is weighed so')
    }
  })

  it('is shared while a worker starts that everybody waits for', async () => {
    const [begun, go] = waits('shared')
    writeFileSync(go, '')
    const initialized = ['--initializer', 'waitFor', '--initargs', JSON.stringify([begun, go])]
    await using server = await ServerProcess.start(['--processes', '1', ...initialized])
    await using client = new Pool(server.address)
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

  it("is the server's while one starts that one client waits for", async () => {
    const [begun, go] = waits('owned')
    await using server = await ServerProcess.start(['--processes', '1'])
    await using ofItsOwn = new Pool(server.address, { processes: 1, initializer: 'waitFor', initargs: [begun, go] })
    const called = ofItsOwn.apply('pid')
    const pid = await pidIn(begun)
    expect(nicenessOf(pid)).toEqual([Math.min(19, own + 5)])
    writeFileSync(go, '')
    expect(await called).toBe(pid)
  })
})
