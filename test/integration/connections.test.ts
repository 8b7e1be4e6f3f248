import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { BadRequestError, Pool } from 'farpool'
import { describe, expect, it } from 'vitest'
import { connect } from '../../client/transport/stream-transport.js'
import type { TransportEvent } from '../../client/transport/transport.js'
import { workerPids } from '../support/calls.js'
import { runClient } from '../support/client.js'
import { sharedFarm } from '../support/farm.js'
import { CLI, farpool, isAlive, ServerProcess, until } from '../support/server.js'

/** How clients find their server, hear of its connection, and end. */

const farm = sharedFarm({ args: ['--processes', '2'] })

describe('the address of a server', () => {
  it.each(['localhost', 'http://host:1', 'host:0', '::1:50051', ''])('%j is refused at once', (address) => {
    expect(() => new Pool(address)).toThrow(BadRequestError)
    expect(() => new Pool(address)).toThrow('it must be host:port, [ipv6]:port or unix:/path')
  })

  it.each([['call', 'add', '1'], ['health']])('is checked by farpool %s', async (...command) => {
    const { code, stdout, stderr } = await farpool([...command, '--address', 'localhost'])
    expect([code, stdout]).toEqual([2, ''])
    expect(stderr).toContain('address is "localhost"')
  })

  it.each([
    ['127.0.0.1', 'call', 'add', '1'],
    ['localhost', 'health'],
  ])('on this machine is not reached through a proxy (%s, farpool %s)', async (host, ...command) => {
    const env = { ...process.env, http_proxy: 'http://127.0.0.1:1', grpc_proxy: 'http://127.0.0.1:1', no_proxy: '' }
    const address = farm.address.replace('127.0.0.1', host)
    const child = spawn(process.execPath, [CLI, ...command, '--address', address], { env, stdio: 'ignore' })
    expect(await once(child, 'exit')).toEqual([0, null])
  })

  it('behind a proxy that does not connect says so', async () => {
    const env = { ...process.env, http_proxy: 'http://127.0.0.1:1', no_proxy: '', no_grpc_proxy: '' }
    const child = spawn(process.execPath, [CLI, 'call', 'add', '--address', 'farpool.example:50051'], { env })
    let said = ''
    child.stderr.on('data', (text) => {
      said += text
    })
    expect(await once(child, 'close')).toEqual([3, null])
    expect(said).toContain('the HTTP proxy that the environment names did not make one')
  })
})

describe('the connection of a transport', () => {
  it('is told of when it comes and when it goes, and not after close()', async () => {
    const server = await ServerProcess.start(['--processes', '1'])
    const states: TransportEvent[] = []
    const transport = connect(server.address, {})
    transport.onEvent = (state) => states.push(state)
    await transport.serverInfo('')
    await until(() => states.length === 1, 'it has come')
    await server[Symbol.asyncDispose]()
    await until(() => states.length === 2, 'it has gone')
    await using _next = await ServerProcess.start(['--processes', '1', '--listen', server.address])
    await transport.serverInfo('')
    await until(() => states.length === 3, 'it has come again')
    transport.close()
    await new Promise(setImmediate)
    expect(states.map((state) => state.kind)).toEqual(['connected', 'disconnected', 'connected'])
    expect(states[1]).toMatchObject({
      reason: { reason: 'CONNECTION_LOST', message: `the connection to dns:${server.address} has ended` },
    })
  })
})

describe('a program with an own pool', () => {
  const run = async (program: string) => {
    const client = runClient(`const pool = new Pool(${JSON.stringify(farm.address)}, { processes: 1 })\n${program}`)
    let said = ''
    client.stdout?.on('data', (text) => {
      said += text
    })
    const [code] = await once(client, 'close')
    return { code, said }
  }

  it('ends when the pool is idle, and the pool ends with it', async () => {
    const { code, said } = await run('console.log((await pool.info()).workers[0].pid)')
    expect(code).toBe(0)
    await until(() => !isAlive(Number(said)), 'the worker is gone')
  })

  it('goes on while calls run, also beside an idle pool on the same connection', async () => {
    const { code, said } = await run(`
      const shared = new Pool(${JSON.stringify(farm.address)})
      await Promise.all([pool.apply('add', [1]), shared.apply('add', [1])])
      for (const some of [pool, shared]) some.apply('busyFor', [1_000]).then(() => console.log('done'))`)
    expect([code, said]).toEqual([0, 'done\ndone\n'])
  })

  it('goes on until join() has resolved', async () => {
    const { code, said } = await run(`
      await pool.apply('add', [1])
      await pool.close()
      await pool.join()
      console.log('joined')`)
    expect([code, said]).toEqual([0, 'joined\n'])
  })
})

describe('an own pool that is lost with its server', () => {
  it('opens anew with the next call, and its initializer runs again', async () => {
    const server = await ServerProcess.start(['--processes', '1'])
    await using pool = new Pool(server.address, { processes: 1, initializer: 'initialize', initargs: ['here'] })
    expect(await pool.apply('initializedWith')).toEqual(['here'])
    const [before] = await workerPids(pool)
    server.signal('SIGKILL')
    await server.exited
    await using _next = await ServerProcess.start(['--processes', '1', '--listen', server.address])
    await until(async () => (await pool.apply('add', [1, 2]).catch(() => 0)) === 3, 'a call has its result')
    expect(await pool.apply('initializedWith')).toEqual(['here'])
    expect(await workerPids(pool)).not.toContain(before)
  })

  it('runs a call there that `retry` makes again', async () => {
    const server = await ServerProcess.start(['--processes', '1'])
    await using pool = new Pool(server.address, { processes: 1 })
    const retry = { times: 100, delay: 20, on: () => true }
    const file = farm.fresh()
    const result = pool.with({ retry }).fn.pidAfter(file)
    await until(() => existsSync(file), 'it runs')
    const [before] = await workerPids(pool)
    server.signal('SIGKILL')
    await server.exited
    await using _next = await ServerProcess.start(['--processes', '1', '--listen', server.address])
    expect(await result).not.toBe(before)
  })
})
