import { spawn } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { Pool, UnavailableError } from 'farpool'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { runClient } from '../support/client.js'
import { CLI, FUNCTIONS, farpool, isAlive, ServerProcess, temporaryFolder, until } from '../support/server.js'

let folder: ReturnType<typeof temporaryFolder>
beforeEach(() => {
  folder = temporaryFolder()
})
afterEach(() => folder.remove())

const pidsOf = async (pool: Pool) => (await pool.info()).workers.map(({ pid }) => pid)
const localFolders = () =>
  readdirSync(tmpdir()).filter((name) => name.startsWith('farpool-') && !name.startsWith('farpool-test-'))

describe('a pool of its own', () => {
  it('has its own processes, which end with it; the shared pool goes on', async () => {
    await using server = await ServerProcess.start(['--processes', '1'])
    await using shared = new Pool(server.address)
    const own = new Pool(server.address, { processes: 3 })
    await until(async () => (await pidsOf(own)).length === 3, 'its processes have been made')
    const pids = await pidsOf(own)
    expect(pids).not.toContain((await pidsOf(shared))[0])
    await own.terminate()
    expect(pids.filter(isAlive)).toEqual([])
    expect(await shared.apply('add', [1, 2])).toBe(3)
  })

  it('ends when its client is killed, with its workers, also one in an endless loop', async () => {
    await using server = await ServerProcess.start(['--processes', '1'])
    const client = runClient(
      `const pool = new Pool(${JSON.stringify(server.address)}, { processes: 2 })
       const { workers } = await pool.info()
       console.log(JSON.stringify(workers.map(({ pid }) => pid)))
       await pool.apply('spin')`,
    )
    const pids: number[] = JSON.parse(
      await new Promise((resolve) => client.stdout?.once('data', (data) => resolve(String(data)))),
    )
    expect(pids.every(isAlive)).toBe(true)
    client.kill('SIGKILL')
    await until(() => !pids.some(isAlive), 'its workers are gone')
  })

  it('that is closed lets its program end by itself', async () => {
    await using server = await ServerProcess.start(['--processes', '1'])
    const client = runClient(
      `const pool = new Pool(${JSON.stringify(server.address)}, { processes: 1 })
       pool.apply('add', [1, 2]).then(console.log)
       pool.close()`,
    )
    const output = await new Promise((resolve) => client.stdout?.once('data', (data) => resolve(String(data))))
    const code = await new Promise((resolve) => client.once('exit', resolve))
    expect([output, code]).toEqual(['3\n', 0])
  })
})

describe('Pool.local', () => {
  it('needs no set-up, takes paths and URLs, and leaves no process and no file behind', async () => {
    const before = localFolders()
    for (const module of [FUNCTIONS, new URL(`file://${FUNCTIONS}`), `file://${FUNCTIONS}`]) {
      const pool = await Pool.local(module, { processes: 2 })
      const pids = await pidsOf(pool)
      expect(pids).toHaveLength(2)
      expect(await pool.apply('add', [1, 2])).toBe(3)
      await pool.terminate()
      expect(pids.filter(isAlive)).toEqual([])
    }
    expect(localFolders()).toEqual(before)
  })

  it('close and join complete what was accepted, then end the server', async () => {
    const pool = await Pool.local(FUNCTIONS, { processes: 1 })
    const pids = await pidsOf(pool)
    const results = pool.mapAsync('square', [1, 2, 3])
    await pool.close()
    await pool.join()
    expect(await results).toEqual([1, 4, 9])
    expect(pids.filter(isAlive)).toEqual([])
  })

  it('passes its options on, initargs of every kind', async () => {
    await using pool = await Pool.local(FUNCTIONS, {
      processes: 1,
      initializer: 'initialize',
      initargs: [new Date(5), 2n ** 60n],
    })
    expect(await pool.apply('initializedWith')).toEqual([new Date(5), 2n ** 60n])
  })

  it.each([
    [{ initializer: 'failToInitialize' }, 'INITIALIZER_FAILED', /no licence/],
    [{ initializer: 'noSuchFunction' }, 'INITIALIZER_FAILED', /"noSuchFunction" is not exported/],
    [{ processes: 0 }, 'BAD_REQUEST', /processes is 0/],
  ])('fails to start with %o: %s', async (options, reason, message) => {
    const before = localFolders()
    await expect(Pool.local(FUNCTIONS, options)).rejects.toMatchObject({
      reason,
      message: expect.stringMatching(message),
    })
    await until(() => localFolders().length === before.length, 'its folder is gone')
  })

  it('ends when its owner is killed, with its workers and its folder', async () => {
    const before = localFolders()
    const client = runClient(
      `const pool = await Pool.local(${JSON.stringify(FUNCTIONS)}, { processes: 2, logLevel: 'silent' })
       const { workers } = await pool.info()
       console.log(JSON.stringify(workers.map(({ pid }) => pid)))
       await pool.apply('spin')`,
    )
    const pids: number[] = JSON.parse(
      await new Promise((resolve) => client.stdout?.once('data', (data) => resolve(String(data)))),
    )
    client.kill('SIGKILL')
    await until(() => !pids.some(isAlive) && localFolders().length === before.length, 'all is gone')
  })

  it('whose initializer never ends is gone with its owner', async () => {
    const file = folder.path('initializing')
    const client = runClient(
      `await Pool.local(${JSON.stringify(FUNCTIONS)}, { initializer: 'hangWhileInitializing', initargs: [${JSON.stringify(file)}], processes: 1 })`,
    )
    await until(() => existsSync(file), 'the worker is in its initializer')
    const pid = Number(readFileSync(file, 'utf8'))
    client.kill('SIGKILL')
    await until(() => !isAlive(pid), 'its worker is gone')
  })

  it('does not keep a program alive that forgets it', async () => {
    const client = runClient(
      `const pool = await Pool.local(${JSON.stringify(FUNCTIONS)}, { processes: 1, logLevel: 'silent' })
       console.log(JSON.stringify((await pool.info()).workers.map(({ pid }) => pid)))`,
    )
    const pids: number[] = JSON.parse(
      await new Promise((resolve) => client.stdout?.once('data', (data) => resolve(String(data)))),
    )
    expect(await new Promise((resolve) => client.once('exit', resolve))).toBe(0)
    await until(() => !pids.some(isAlive), 'its workers are gone')
  })
})

describe('a server', () => {
  it('drains on SIGTERM: the call in flight finishes, new ones are refused as never started, exit code 0', async () => {
    await using server = await ServerProcess.start(['--processes', '1'])
    await using pool = new Pool(server.address)
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

  it('that drains leaves its Unix socket to the next', async () => {
    const socket = folder.path('passed-on.sock')
    const listen = ['--processes', '1', '--listen', `unix:${socket}`]
    await using old = await ServerProcess.start(listen)
    await using pool = new Pool(old.address)
    const [begun, go] = [folder.path('passed-on'), folder.path('passed-on go')]
    const inFlight = pool.applyAsync('waitFor', [begun, go, 'finished'])
    await until(() => existsSync(begun), 'the call is running')
    old.signal('SIGTERM')
    await old.logged(({ msg }) => msg === 'waiting for calls in flight')
    await using _next = await ServerProcess.start(listen)
    expect(await pool.apply('pid')).not.toBe(Number(readFileSync(begun, 'utf8')))
    writeFileSync(go, '')
    expect(await inFlight).toBe('finished')
    expect(await old.exited).toBe(0)
    expect(existsSync(socket)).toBe(true)
  })

  it('fails what is still in flight when the time for draining is over', async () => {
    await using server = await ServerProcess.start(['--processes', '1', '--drain', '50'])
    await using pool = new Pool(server.address)
    const inFlight = pool.applyAsync('never')
    await until(async () => (await pool.info()).running === 1, 'the call is running')
    server.signal('SIGINT')
    await expect(inFlight).rejects.toMatchObject({ reason: 'POOL_TERMINATED', code: 'ABORTED' })
    expect(await server.exited).toBe(0)
  })

  it('ends at once on a second signal', async () => {
    await using server = await ServerProcess.start(['--processes', '1'])
    await using pool = new Pool(server.address)
    const pids = await pidsOf(pool)
    const inFlight = pool.applyAsync('spin')
    await until(async () => (await pool.info()).running === 1, 'the call is running')
    server.signal('SIGTERM')
    await server.logged(({ msg }) => msg === 'waiting for calls in flight')
    server.signal('SIGTERM')
    await expect(inFlight).rejects.toMatchObject({ reason: 'POOL_TERMINATED' })
    expect(await server.exited).toBe(0)
    expect(pids.filter(isAlive)).toEqual([])
  })

  it('that is killed leaves no worker behind: none that is idle, waits, or is busy in a loop', async () => {
    await using server = await ServerProcess.start(['--processes', '3'])
    await using pool = new Pool(server.address)
    const pids = await pidsOf(pool)
    const inFlight = ['never', 'spin'].map((name) => pool.apply(name).catch((error: unknown) => error))
    await until(async () => (await pool.info()).running === 2, 'the calls are running')
    server.signal('SIGKILL')
    for (const call of inFlight) expect(await call).toBeInstanceOf(UnavailableError)
    await until(() => !pids.some(isAlive), 'its workers are gone')
  })

  it('ends when its standard input ends, if it was told to', async () => {
    const child = spawn(process.execPath, [CLI, 'serve', FUNCTIONS, '--listen', '127.0.0.1:0', '--exit-on-stdin-end'], {
      stdio: ['pipe', 'ignore', 'ignore'],
    })
    child.stdin.end()
    // 1 where it had not yet started.
    expect([0, 1]).toContain(await new Promise((resolve) => child.once('exit', resolve)))
  })

  it('listens on a Unix socket, takes over the file of one that was killed, and removes it in the end', async () => {
    const socket = folder.path('farpool.sock')
    const listen = ['--processes', '1', '--listen', `unix:${socket}`]
    // Ours is removed by the server's guard; one that lost both, or another program, leaves it.
    const code = `require('node:net').createServer().listen(${JSON.stringify(socket)}, () => console.log('listens'))`
    const killed = spawn(process.execPath, ['--eval', code], { stdio: ['ignore', 'pipe', 'inherit'] })
    await new Promise((resolve) => killed.stdout.once('data', resolve))
    killed.kill('SIGKILL')
    await new Promise((resolve) => killed.once('exit', resolve))
    expect(existsSync(socket)).toBe(true)
    {
      await using server = await ServerProcess.start(listen)
      await using pool = new Pool(server.address)
      expect(await pool.apply('add', [1, 2])).toBe(3)
      const second = await farpool(['serve', FUNCTIONS, ...listen])
      expect(second.code).toBe(2)
      expect(second.stderr).toContain('another server listens there')
      expect(await pool.apply('add', [1, 2])).toBe(3)
    }
    expect(existsSync(socket)).toBe(false)
  })

  it('refuses a port in use and leaves no worker behind', async () => {
    const taken = createServer()
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve))
    const { port } = taken.address() as { port: number }
    const { code, stderr } = await farpool(['serve', FUNCTIONS, '--processes', '1', '--listen', `127.0.0.1:${port}`])
    taken.close()
    expect(code).toBe(2)
    expect(stderr).toContain(`cannot listen on 127.0.0.1:${port}: it is in use`)
  })

  it('logs what functions print, with the worker and the task', async () => {
    await using server = await ServerProcess.start(['--processes', '1'])
    await using pool = new Pool(server.address)
    const [pid] = await pidsOf(pool)
    await pool.apply('print', ['first'])
    await pool.apply('print', ['second'])
    const lines = [
      await server.logged(({ msg }) => msg === 'first'),
      await server.logged(({ msg }) => msg === 'second (stderr)'),
    ]
    expect(lines).toMatchObject([
      { worker: pid, task: 1, stream: 'stdout' },
      { worker: pid, task: 2, stream: 'stderr' },
    ])
  })

  it('holds a function back that prints faster than the log is read, and loses nothing', async () => {
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
    // Nobody reads the log: other functions and the server go on all the same.
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

  it('takes a function that prints 10 MB without losing a line', async () => {
    await using server = await ServerProcess.start(['--processes', '1'])
    await using pool = new Pool(server.address)
    expect(await pool.apply('printMuch', [10_000_000])).toBe(10_000_000)
    await pool.apply('print', ['the end'])
    await server.logged(({ msg }) => msg === 'the end')
    expect(server.log.filter(({ msg }) => msg === 'x'.repeat(99))).toHaveLength(100_000)
  })

  it('runs the same module from the command line as from anywhere: the built command is executable', () => {
    expect(readFileSync(CLI, 'utf8').startsWith('#!/usr/bin/env node')).toBe(true)
  })
})
