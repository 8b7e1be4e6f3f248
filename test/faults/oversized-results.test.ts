import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import type { Pool } from 'farpool'
import { describe, expect, it } from 'vitest'
import { errorOf } from '../support/calls.js'
import { startFarm } from '../support/farm.js'
import { FUNCTIONS, farpool, temporaryFolder } from '../support/server.js'

describe.runIf(process.platform === 'linux')('a result of 400 MiB', () => {
  it.each([
    ['a call', (pool: Pool, bytes: number) => pool.apply('bytesOf', [bytes])],
    ['a chunk', (pool: Pool, bytes: number) => pool.map('bytesOf', [bytes / 2, bytes / 2], { chunksize: 2 })],
  ])('of %s does not leave its worker, which lives', async (_, call) => {
    await using farm = await startFarm()
    const { server, pool } = farm
    const pid = await pool.apply('pid')
    const peak = () => Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${server.pid}/status`, 'utf8'))?.[1])
    const before = peak()
    const error = await errorOf(call(pool, 400 * 2 ** 20))
    expect(error).toMatchObject({ reason: 'RESULT_TOO_LARGE', started: true })
    expect(peak() - before).toBeLessThan(100 * 1024)
    expect(await pool.apply('pid')).toBe(pid)
  })
})

describe('a Unix socket', () => {
  it.runIf(process.platform === 'linux')('of a server that is too busy to answer is not taken over', async () => {
    const folder = temporaryFolder()
    const path = folder.path('busy.sock')
    const listen = `require('node:net').createServer().listen({ path: ${JSON.stringify(path)}, backlog: 1 }, () => {
      console.log('listening')
      for (;;);
    })`
    const busy = spawn(process.execPath, ['-e', listen], { stdio: ['ignore', 'pipe', 'inherit'] })
    await once(busy.stdout, 'data')
    // The kernel accepts a few connections for it, and then refuses.
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
  })
})
