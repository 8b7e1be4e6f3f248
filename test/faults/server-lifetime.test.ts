import { spawn } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { Pool, UnavailableError } from 'farpool'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { workerPids } from '../support/calls.js'
import { startFarm } from '../support/farm.js'
import { CLI, FUNCTIONS, farpool, isAlive, temporaryFolder, until } from '../support/server.js'

let folder: ReturnType<typeof temporaryFolder>
beforeEach(() => {
  folder = temporaryFolder()
})
afterEach(() => folder.remove())

describe('a server', () => {
  it('with --exit-on-stdin-end ends when its standard input ends', async () => {
    const child = spawn(process.execPath, [CLI, 'serve', FUNCTIONS, '--listen', '127.0.0.1:0', '--exit-on-stdin-end'], {
      stdio: ['pipe', 'ignore', 'ignore'],
    })
    child.stdin.end()
    // 1 if it had not started yet.
    expect([0, 1]).toContain(await new Promise((resolve) => child.once('exit', resolve)))
  })

  it('takes over the Unix socket of a killed server, and removes it at its end', async () => {
    const socket = folder.path('farpool.sock')
    const listen = ['--processes', '1', '--listen', `unix:${socket}`]
    // The orphan reaper removes the socket file of a farpool server, so another program leaves one here.
    const code = `require('node:net').createServer().listen(${JSON.stringify(socket)}, () => console.log('listens'))`
    const killed = spawn(process.execPath, ['--eval', code], { stdio: ['ignore', 'pipe', 'inherit'] })
    await new Promise((resolve) => killed.stdout.once('data', resolve))
    killed.kill('SIGKILL')
    await new Promise((resolve) => killed.once('exit', resolve))
    expect(existsSync(socket)).toBe(true)
    {
      await using farm = await startFarm({ args: listen })
      const { pool } = farm
      expect(await pool.apply('add', [1, 2])).toBe(3)
      const second = await farpool(['serve', FUNCTIONS, ...listen])
      expect(second.code).toBe(2)
      expect(second.stderr).toContain('another server listens there')
      expect(await pool.apply('add', [1, 2])).toBe(3)
    }
    expect(existsSync(socket)).toBe(false)
  })

  it('exits with 2 if its port is in use', async () => {
    const taken = createServer()
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve))
    const { port } = taken.address() as { port: number }
    const { code, stderr } = await farpool(['serve', FUNCTIONS, '--processes', '1', '--listen', `127.0.0.1:${port}`])
    taken.close()
    expect(code).toBe(2)
    expect(stderr).toContain(`cannot listen on 127.0.0.1:${port}: it is in use`)
  })

  it('slows down a function that prints faster than the log is read, and loses no line', async () => {
    const child = spawn(
      process.execPath,
      [CLI, 'serve', FUNCTIONS, '--processes', '2', '--listen', '127.0.0.1:0', '--exit-on-stdin-end'],
      {
        stdio: ['pipe', 'ignore', 'pipe'],
      },
    )
    let log = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      log += text
    })
    await until(() => log.includes('"msg":"serving"'), 'the server has started')
    await using pool = new Pool(String(/"address":"([^"]+)"/.exec(log)?.[1]))
    child.stderr.pause()
    const printing = pool.applyAsync('printMuch', [20_000_000])
    // Nobody reads the log now, and still other functions run.
    await until(async () => (await pool.info()).running === 1, 'it prints')
    expect(await pool.apply('add', [1, 2])).toBe(3)
    child.stderr.resume()
    expect(await printing).toBe(20_000_000)
    await pool.apply('print', ['the end'])
    await until(() => log.includes('"msg":"the end"'), 'all has been logged')
    expect(log.match(/"msg":"x{99}"/g)).toHaveLength(200_000)
    child.stdin.end()
    await new Promise((resolve) => child.once('exit', resolve))
  })

  it('logs each line of a function that prints 10 MB', async () => {
    await using farm = await startFarm()
    const { server, pool } = farm
    expect(await pool.apply('printMuch', [10_000_000])).toBe(10_000_000)
    await pool.apply('print', ['the end'])
    await server.logged(({ msg }) => msg === 'the end')
    expect(server.log.filter(({ msg }) => msg === 'x'.repeat(99))).toHaveLength(100_000)
  })

  it('is started by a file with a shebang line', () => {
    expect(readFileSync(CLI, 'utf8').startsWith('#!/usr/bin/env node')).toBe(true)
  })

  it('drains on SIGTERM: it finishes running calls, refuses new ones as not started, and exits with 0', async () => {
    await using farm = await startFarm()
    const { server, pool } = farm
    const [begun, go] = [folder.path('begun'), folder.path('go')]
    const inFlight = pool.applyAsync('waitFor', [begun, go, 'finished'])
    await until(() => existsSync(begun), 'the call is running')
    server.signal('SIGTERM')
    await server.logged(({ msg }) => msg === 'waiting for calls in flight')
    const refused = await pool.apply('add', [1]).catch((error: unknown) => error)
    expect(refused).toBeInstanceOf(UnavailableError)
    expect(refused).toMatchObject({ started: false, code: 'UNAVAILABLE' })
    writeFileSync(go, '')
    expect(await inFlight).toBe('finished')
    expect(await server.exited).toBe(0)
  })

  it('that drains completes a call that takes longer than several pings', async () => {
    await using farm = await startFarm()
    const { server, pool } = farm
    expect(await pool.apply('add', [1, 2])).toBe(3)
    const inFlight = pool.applyAsync('busyFor', [12_000])
    await until(async () => (await pool.info()).running === 1, 'the call is running')
    server.signal('SIGTERM')
    expect(await inFlight).toBe(12_000)
    expect(await server.exited).toBe(0)
  })

  it('that is killed leaves no worker: idle, waiting or in an endless loop', async () => {
    await using farm = await startFarm({ args: ['--processes', '3'] })
    const { server, pool } = farm
    const pids = await workerPids(pool)
    const inFlight = ['never', 'spin'].map((name) => pool.apply(name).catch((error: unknown) => error))
    await until(async () => (await pool.info()).running === 2, 'the calls are running')
    server.signal('SIGKILL')
    for (const call of inFlight) expect(await call).toBeInstanceOf(UnavailableError)
    await until(() => !pids.some(isAlive), 'its workers are gone')
  })
})
