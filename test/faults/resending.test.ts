import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, writeFileSync } from 'node:fs'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { credentials, type ServiceError, status } from '@grpc/grpc-js'
import { type FarpoolError, LimitError, Pool, UnavailableError } from 'farpool'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type ApplyRequest, type ApplyResponse, PoolServiceClient } from '../../proto/gen/farpool/v1/pool_service.js'
import { errorOf, linesOf, waiting } from '../support/calls.js'
import { ServerProcess, temporaryFolder, until } from '../support/server.js'

const folder = temporaryFolder()
afterAll(() => folder.remove())
let file = ''
beforeEach(() => {
  file = folder.fresh()
})

const lines = () => linesOf(file)

const request = (name: string, args: unknown[], more: Partial<ApplyRequest> = {}): ApplyRequest => ({
  pool: '',
  function: name,
  args: args.map((value) => ({ kind: { $case: 'json' as const, value: JSON.stringify(value) } })),
  kwargs: undefined,
  replyKind: 0,
  retries: 0,
  queueTimeoutMs: 0,
  runTimeoutMs: 0,
  requestId: '',
  ...more,
})

describe('a full queue', () => {
  let server: ServerProcess
  let stub: PoolServiceClient
  let blocked: Pool
  beforeAll(async () => {
    server = await ServerProcess.start([
      '--processes',
      '1',
      '--max-queued',
      '2',
      '--max-pools',
      '1',
      '--max-processes',
      '3',
    ])
    stub = new PoolServiceClient(server.address, credentials.createInsecure())
    blocked = new Pool(server.address, { transport: 'unary' })
  })
  afterAll(async () => {
    stub.close()
    await blocked.terminate()
    await server[Symbol.asyncDispose]()
  })
  /** One call runs until `${file}.go` is there, two wait. */
  const fill = async () => {
    const { result } = await waiting(blocked, file)
    const queued = [1, 2].map((x) => blocked.applyAsync('square', [x]))
    await until(async () => (await blocked.info()).queued === 2, 'two wait')
    return [result, ...queued]
  }

  it('refuses with QUEUE_FULL, RetryInfo and pushback; a stub can read both', async () => {
    const results = await fill()
    const error = await new Promise<ServiceError>((resolve) => {
      stub.apply(request('add', [1, 1]), (failed) => resolve(failed as ServiceError))
    })
    expect([error.code, error.metadata.get('grpc-retry-pushback-ms')]).toEqual([status.RESOURCE_EXHAUSTED, ['100']])
    expect(error.details).toBe('2 tasks in the pool wait already; at most 2 may. Try again later')
    writeFileSync(`${file}.go`, '')
    expect(await Promise.all(results)).toEqual(['went on', 1, 4])
  })

  it.each(['stream', 'unary'] as const)(
    'is waited for by the client, as long as the call may (%s)',
    async (transport) => {
      const results = await fill()
      await using client = new Pool(server.address, { transport })
      const error = await errorOf(client.apply('add', [1, 1], undefined, { timeout: 300 }))
      expect(error).toBeInstanceOf(LimitError)
      expect([error.reason, error.started]).toEqual(['QUEUE_FULL', false])
      const patient = [client.applyAsync('add', [1, 1]), client.mapAsync('square', [1, 2, 3], { chunksize: 1 })]
      await until(async () => (await client.info()).tasks.submitted > 0, 'they are refused meanwhile')
      writeFileSync(`${file}.go`, '')
      expect(await Promise.all(patient)).toEqual([2, [1, 4, 9]])
      await Promise.all(results)
    },
  )

  it('and too many pools or processes are refused too', async () => {
    const refusal = async (processes: number) => {
      await using another = new Pool(server.address, { processes })
      return (await errorOf(another.apply('add', [1, 1]))).message
    }
    const own = new Pool(server.address, { processes: 1 })
    await own.apply('add', [1, 1])
    expect(await refusal(1)).toBe('1 pools of clients are open; at most 1 may be')
    await own.terminate()
    expect(await refusal(4)).toBe('a pool of 4 processes, where there are 1; all pools may have 3')
  })
})

describe('a call that its client has named', () => {
  it('runs once, however often it is sent, at once or later', async () => {
    await using server = await ServerProcess.start(['--processes', '2'])
    const stub = new PoolServiceClient(server.address, credentials.createInsecure())
    const named = request('waitFor', [file, `${file}.go`, 'once'], { requestId: 'a name that nobody guesses' })
    const send = () => {
      let cancel = () => {}
      const answer = new Promise<ApplyResponse | ServiceError>((resolve) => {
        const call = stub.apply(named, (error, response) => resolve(error ?? response))
        cancel = () => call.cancel()
      })
      return { answer, cancel }
    }
    const lost = send()
    await until(() => lines() === 1, 'it runs')
    lost.cancel()
    expect(await lost.answer).toMatchObject({ code: status.CANCELLED })
    const again = [send(), send()]
    writeFileSync(`${file}.go`, '')
    const answers = [...(await Promise.all(again.map(({ answer }) => answer))), await send().answer]
    expect(answers.map((answer) => 'result' in answer && answer.result?.kind?.value)).toEqual(Array(3).fill('"once"'))
    expect(lines()).toBe(1)
    stub.close()
  })
})

/** A way to a server that can be cut. */
class Relay {
  readonly #sockets = new Set<Socket>()
  private constructor(
    private readonly server: Server,
    readonly address: string,
  ) {}

  static async to(address: string): Promise<Relay> {
    const { hostname, port } = new URL(`http://${address}`)
    const server = createServer((near) => {
      const far = connect(Number(port), hostname)
      for (const [one, other] of [
        [near, far],
        [far, near],
      ] as const) {
        relay.#sockets.add(one)
        one.on('error', () => {}).on('close', () => other.destroy())
        one.pipe(other)
      }
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const relay = new Relay(server, `127.0.0.1:${(server.address() as { port: number }).port}`)
    return relay
  }

  cut(): void {
    for (const socket of this.#sockets) socket.destroy()
    this.#sockets.clear()
  }

  close(): void {
    this.server.close()
    this.cut()
  }
}

/** A program of its own, which talks to this one. */
function begun(program: string) {
  const child = spawn(process.execPath, ['--input-type=module', '--eval', program], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  })
  const said = async () => (await once(child, 'message'))[0]
  return { child, said, exited: once(child, 'exit') }
}

describe('a connection that breaks', () => {
  let server: ServerProcess
  let relay: Relay
  beforeEach(async () => {
    server = await ServerProcess.start(['--processes', '2'])
    relay = await Relay.to(server.address)
  })
  afterEach(async () => {
    relay.close()
    await server[Symbol.asyncDispose]()
  })

  it('loses no call, and runs none twice: those that run, those that wait, those that are made meanwhile', async () => {
    await using pool = new Pool(relay.address)
    const running = pool.applyAsync('waitFor', [`${file}.begun`, `${file}.go`, 'ran'])
    const map = pool.mapAsync(
      'appendLine',
      Array.from({ length: 500 }, (_, i) => i),
      { chunksize: 1 },
    )
    await until(() => existsSync(`${file}.begun`), 'it runs')
    const appended = Array.from({ length: 2_000 }, (_, i) => pool.applyAsync('appendLine', [file, String(i)]))
    await until(() => lines() > 100, 'many have run')
    relay.cut()
    const meanwhile = pool.applyAsync('add', [1, 1])
    writeFileSync(`${file}.go`, '')
    expect(await running).toBe('ran')
    expect(await meanwhile).toBe(2)
    expect(await Promise.all(appended)).toEqual(Array.from({ length: 2_000 }, (_, i) => String(i)))
    expect(lines()).toBe(2_000)
    map.cancel()
  })

  it('again and again, under an imap: in order, each once', async () => {
    await using pool = new Pool(relay.address)
    const seen: number[] = []
    for await (const value of pool.imap('square', Array(3_000).keys())) {
      seen.push(value as number)
      if (seen.length % 500 === 0) relay.cut()
    }
    expect(seen).toEqual(Array.from({ length: 3_000 }, (_, i) => i * i))
  })

  it('while nothing is under way, for good: a program that has gone on to other things ends by itself', async () => {
    const program = `
      import { Pool } from 'farpool'
      // Each tries to come back at times of its own.
      const pools = Array.from({ length: 12 }, () => new Pool(${JSON.stringify(relay.address)}))
      await Promise.all(pools.map((pool) => pool.apply('add', [1, 2])))
      process.send('idle')
      await new Promise((resolve) => process.once('message', resolve))
      // Longer than a session rests before it ends.
      await new Promise((resolve) => setTimeout(resolve, 700))
      const calls = pools.map((pool) => pool.apply('add', [1, 2], undefined, { timeout: 20 }))
      process.send((await Promise.allSettled(calls)).map(({ status }) => status))
      await Promise.all(pools.map((pool) => pool.terminate()))
      process.disconnect()`
    const { child, said, exited } = begun(program)
    expect(await said()).toBe('idle')
    relay.close()
    child.send('go on')
    expect(await said()).toEqual(Array(12).fill('rejected'))
    expect(await exited).toEqual([0, null])
  })

  it('for good, under an imap of which the server has heard some chunks: no other is sent when its pool has ended', async () => {
    const program = `
      import { Pool } from 'farpool'
      const pool = new Pool(${JSON.stringify(server.address)})
      await pool.apply('add', [1, 2])
      process.send('connected')
      await new Promise((resolve) => process.once('message', resolve))
      // In one request, and more than fits into a connection that nobody reads.
      const iterator = pool.imap('identity', Array(16).fill('a'.repeat(2_000_000)))
      for (let turn = 0; turn < 100; turn++) await new Promise(setImmediate)
      process.send('sent')
      const error = await iterator.next().catch((error) => error)
      await pool.terminate()
      process.send(error.reason)
      process.disconnect()`
    const { child, said, exited } = begun(program)
    expect(await said()).toBe('connected')
    // It reads nothing more.
    server.signal('SIGSTOP')
    child.send('go on')
    expect(await said()).toBe('sent')
    server.signal('SIGKILL')
    expect(await said()).toBe('CONNECTION_LOST')
    expect(await exited).toEqual([0, null])
  })

  it('for good: the call fails with CONNECTION_LOST, which says that it may have run', async () => {
    await using pool = new Pool(relay.address)
    const { result } = await waiting(pool, file)
    server.signal('SIGKILL')
    const error = await errorOf(result.get())
    expect(error).toBeInstanceOf(UnavailableError)
    expect([error.reason, error.code, error.started]).toEqual(['CONNECTION_LOST', 'ABORTED', undefined])
  })
})

describe('results that are large', () => {
  it.each([
    ['one by one', 24, 'giveBack', '10MB', 10_000_000],
    ['behind a queue of calls', 4_000, 'textOf', 100_000, 100_000],
  ] as const)('come back all, however many there are: %s', async (_, calls, name, arg, length) => {
    await using server = await ServerProcess.start(['--processes', '2'])
    await using pool = new Pool(server.address)
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

describe('two servers behind one client', () => {
  it.each(['stream', 'unary'] as const)(
    'one that drains, however long: calls go to the other, over %s',
    async (transport) => {
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
    },
  )

  it('restarted one after the other, lose no call', async () => {
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
