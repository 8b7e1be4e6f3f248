import { existsSync, rmSync } from 'node:fs'
import { Pool } from 'farpool'
import { afterAll, describe, expect, it } from 'vitest'
import { childrenOf } from '../chaos/processes.js'
import { isAlive, ServerProcess, temporaryFolder, until } from '../support/server.js'

const folder = temporaryFolder()
afterAll(() => folder.remove())

describe('a server that is killed', () => {
  it('leaves no worker, also none that is in a loop, and no file of its socket', async () => {
    const socket = folder.path('killed.sock')
    const killed = await ServerProcess.start(['--processes', '2', '--listen', `unix:${socket}`])
    const client = new Pool(`unix:${socket}`)
    const pids = (await client.info()).workers.map(({ pid }) => pid)
    client.applyAsync('spin')
    await until(async () => (await client.info()).running === 1, 'it runs')
    killed.signal('SIGKILL')
    await until(() => !existsSync(socket) && !pids.some(isAlive), 'nothing is left')
    await client.terminate()
  })

  it('leaves no worker also where its guard was killed before', async () => {
    const socket = folder.path('unguarded.sock')
    const killed = await ServerProcess.start(['--processes', '1', '--listen', `unix:${socket}`])
    const client = new Pool(`unix:${socket}`)
    const [worker] = (await client.info()).workers
    const guard = () => childrenOf(killed.pid).find((pid) => pid !== worker?.pid)
    const first = guard()
    process.kill(first ?? 0, 'SIGKILL')
    await until(() => guard() !== undefined && guard() !== first, 'there is another')
    client.applyAsync('spin')
    await until(async () => (await client.info()).running === 1, 'it runs')
    killed.signal('SIGKILL')
    await until(() => !existsSync(socket) && !isAlive(worker?.pid ?? 0), 'nothing is left')
    await client.terminate()
  })

  it('does not take the file of the server that came after it', async () => {
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
