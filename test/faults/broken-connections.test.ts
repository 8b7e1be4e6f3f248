import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { type FarpoolError, Pool, UnavailableError } from 'farpool'
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Relay } from '../chaos/relay.js'
import { errorOf, waiting } from '../support/calls.js'
import { sharedFarm, startFarm } from '../support/farm.js'
import { ServerProcess, temporaryFolder, until } from '../support/server.js'

const folder = temporaryFolder()
afterAll(() => folder.remove())
let file = ''
beforeEach(() => {
  file = folder.fresh()
})

/** Runs a program in its own process; the two exchange messages. */
function begun(program: string) {
  const child = spawn(process.execPath, ['--input-type=module', '--eval', program], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  })
  const said = async () => (await once(child, 'message'))[0]
  return { child, said, exited: once(child, 'exit') }
}

describe('a client whose connection breaks', () => {
  const farm = sharedFarm({ args: ['--processes', '2'] })
  let relay: Relay
  beforeEach(async () => {
    relay = await Relay.to(farm.address)
  })
  afterEach(() => relay[Symbol.asyncDispose]())

  it('again and again gets each result of an imap once, in order', async () => {
    await using pool = new Pool(relay.address)
    const seen: number[] = []
    for await (const value of pool.imap('square', Array(3_000).keys())) {
      seen.push(value as number)
      if (seen.length % 500 === 0) relay.cut()
    }
    expect(seen).toEqual(Array.from({ length: 3_000 }, (_, i) => i * i))
  })

  it('again and again gets each large result unchanged, byte for byte', async () => {
    await using pool = new Pool(relay.address)
    /** Different in each call, and at each place of a value. */
    const bytesOf = (call: number) => {
      const words = new Uint32Array(8_000 + ((call * 70_001) % 500_000))
      for (let i = 0; i < words.length; i++) words[i] = Math.imul(i + 1, 2_654_435_761) ^ call
      return Buffer.from(words.buffer)
    }
    let done = 0
    const lane = async (first: number) => {
      for (let call = first; call < 160; call += 8) {
        const value = bytesOf(call)
        const result = (await pool.apply('identity', [value])) as Uint8Array
        expect([call, value.equals(result)]).toEqual([call, true])
        if (++done % 20 === 0) relay.cut()
      }
    }
    await Promise.all([0, 1, 2, 3, 4, 5, 6, 7].map(lane))
    expect(done).toBe(160)
  })

  it('for good while it is idle does not keep its program alive', async () => {
    const program = `
      import { Pool } from 'farpool'
      // Twelve of them, because each reconnects after a random time.
      const pools = Array.from({ length: 12 }, () => new Pool(${JSON.stringify(relay.address)}))
      await Promise.all(pools.map((pool) => pool.apply('add', [1, 2])))
      process.send('idle')
      await new Promise((resolve) => process.once('message', resolve))
      // Longer than a session stays open without calls.
      await new Promise((resolve) => setTimeout(resolve, 700))
      const calls = pools.map((pool) => pool.apply('add', [1, 2], undefined, { timeout: 20 }))
      process.send((await Promise.allSettled(calls)).map(({ status }) => status))
      await Promise.all(pools.map((pool) => pool.terminate()))
      process.disconnect()`
    const { child, said, exited } = begun(program)
    expect(await said()).toBe('idle')
    await relay[Symbol.asyncDispose]()
    child.send('go on')
    expect(await said()).toEqual(Array(12).fill('rejected'))
    expect(await exited).toEqual([0, null])
  })
})

describe('a client whose server is killed', () => {
  it('in an imap sends no other chunk after its pool has ended', async () => {
    await using farm = await startFarm({ args: ['--processes', '2'] })
    const { server } = farm
    const program = `
      import { Pool } from 'farpool'
      const pool = new Pool(${JSON.stringify(server.address)})
      await pool.apply('add', [1, 2])
      process.send('connected')
      await new Promise((resolve) => process.once('message', resolve))
      // One request that is larger than the buffers of a connection that nobody reads.
      const iterator = pool.imap('identity', Array(16).fill('a'.repeat(2_000_000)))
      for (let turn = 0; turn < 100; turn++) await new Promise(setImmediate)
      process.send('sent')
      const error = await iterator.next().catch((error) => error)
      await pool.terminate()
      process.send(error.reason)
      process.disconnect()`
    const { child, said, exited } = begun(program)
    expect(await said()).toBe('connected')
    // From here the server reads nothing.
    server.signal('SIGSTOP')
    child.send('go on')
    expect(await said()).toBe('sent')
    server.signal('SIGKILL')
    expect(await said()).toBe('CONNECTION_LOST')
    expect(await exited).toEqual([0, null])
  })

  it('fails its running calls with CONNECTION_LOST, and cannot tell whether they ran', async () => {
    await using farm = await startFarm({ args: ['--processes', '2'] })
    const { server, pool } = farm
    const { result } = await waiting(pool, file)
    server.signal('SIGKILL')
    const error = await errorOf(result.get())
    expect(error).toBeInstanceOf(UnavailableError)
    expect([error.reason, error.code, error.started]).toEqual(['CONNECTION_LOST', 'ABORTED', undefined])
  })
})

describe('many calls with large results', () => {
  it.each([
    ['one by one', 24, 'giveBack', '10MB', 10_000_000],
    ['behind a queue of calls', 4_000, 'textOf', 100_000, 100_000],
  ] as const)('all have their results: %s', async (_, calls, name, arg, length) => {
    await using farm = await startFarm({ args: ['--processes', '2'] })
    const { pool } = farm
    let right = 0
    await Promise.all(
      Array.from({ length: calls }, async () => {
        const result = (await pool.apply(name, [arg])) as { length: number }
        if (result.length === length) right++
      }),
    )
    expect(right).toBe(calls)
  })
})

describe('a client of two servers', () => {
  it.each(['stream', 'unary'] as const)('sends its calls to the other while one drains (%s)', async (transport) => {
    await using one = await ServerProcess.start(['--processes', '1', '--drain', '300000'])
    await using other = await ServerProcess.start(['--processes', '1'])
    await using pool = new Pool(`ipv4:${one.address},${other.address}`, { transport })
    const { result, pid } = await waiting(pool, file)
    one.signal('SIGTERM')
    await one.logged(({ msg }) => msg === 'waiting for calls in flight')
    for (const call of Array.from({ length: 20 }, () => pool.apply('pid'))) expect(await call).not.toBe(pid)
    expect(await pool.map('square', [1, 2, 3])).toEqual([1, 4, 9])
    writeFileSync(`${file}.go`, '')
    expect(await result.get()).toBe('went on')
    expect(await one.exited).toBe(0)
  })

  it('loses no call while they restart one after the other', async () => {
    const start = (address = '127.0.0.1:0') => ServerProcess.start(['--processes', '1', '--listen', address])
    const servers = [await start(), await start()]
    await using pool = new Pool(`ipv4:${servers.map(({ address }) => address).join(',')}`)
    let calls = 0
    let isOver = false
    const failures: unknown[] = []
    const caller = async () => {
      while (!isOver) {
        const result = await pool.apply('add', [calls, 1]).catch((error: FarpoolError) => {
          failures.push(`${error.reason}: ${error.message}`)
        })
        if (result !== undefined) calls++
      }
    }
    const callers = Array.from({ length: 8 }, caller)
    for (const at of [0, 1, 0, 1]) {
      const before = calls
      await until(() => calls > before + 50, 'calls are answered')
      const { address } = servers[at] as ServerProcess
      servers[at]?.signal('SIGTERM')
      await servers[at]?.exited
      servers[at] = await start(address)
    }
    const before = calls
    await until(() => calls > before + 50, 'calls are answered')
    isOver = true
    await Promise.all(callers)
    expect(failures).toEqual([])
    for (const server of servers) await server[Symbol.asyncDispose]()
  })
})
