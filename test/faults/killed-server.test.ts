import { existsSync, readFileSync, rmSync } from 'node:fs'
import { Pool } from 'farpool'
import { afterAll, describe, expect, it } from 'vitest'
import { childrenOf } from '../chaos/processes.js'
import { isAlive, ServerProcess, temporaryFolder, until } from '../support/server.js'

const folder = temporaryFolder()
afterAll(() => folder.remove())

function isShell(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8') === 'sh\n'
  } catch {
    // It has ended meanwhile.
    return false
  }
}

describe('a server that is killed', () => {
  it('leaves no worker, even if its orphan reaper was killed before', async () => {
    const socket = folder.path('unguarded.sock')
    const killed = await ServerProcess.start(['--processes', '1', '--listen', `unix:${socket}`])
    const client = new Pool(`unix:${socket}`)
    const [worker] = (await client.info()).workers
    // By its name: a child that is no worker of before might also be a new worker.
    const guard = () => childrenOf(killed.pid).find((pid) => isShell(pid))
    const first = guard()
    process.kill(first ?? 0, 'SIGKILL')
    await until(() => guard() !== undefined && guard() !== first, 'there is another')
    client.applyAsync('spin')
    await until(async () => (await client.info()).running === 1, 'it runs')
    killed.signal('SIGKILL')
    await until(() => !existsSync(socket) && !isAlive(worker?.pid ?? 0), 'nothing is left')
    await client.terminate()
  })

  it('does not remove the socket file of the server that came after it', async () => {
    const socket = folder.path('taken.sock')
    const killed = await ServerProcess.start(['--listen', `unix:${socket}`])
    rmSync(socket)
    await using next = await ServerProcess.start(['--listen', `unix:${socket}`])
    killed.signal('SIGKILL')
    await killed.exited
    await using client = new Pool(next.address)
    expect(await client.apply('add', [1, 1])).toBe(2)
    expect(existsSync(socket)).toBe(true)
  })
})
