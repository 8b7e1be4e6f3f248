import { existsSync } from 'node:fs'
import { Pool } from 'farpool'
import { afterAll, describe, it } from 'vitest'
import { isAlive, ServerProcess, temporaryFolder, until } from '../support/server.js'

const folder = temporaryFolder()
afterAll(() => folder.remove())

describe('a server that is killed', () => {
  it('leaves no worker, not even one in an endless loop, and no socket file', async () => {
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
})
