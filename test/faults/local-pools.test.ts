import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { Pool } from 'farpool'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { errorOf, workerPids } from '../support/calls.js'
import { runClient } from '../support/client.js'
import { sharedFarm } from '../support/farm.js'
import { FUNCTIONS, isAlive, temporaryFolder, until } from '../support/server.js'

let folder: ReturnType<typeof temporaryFolder>
beforeEach(() => {
  folder = temporaryFolder()
})
afterEach(() => folder.remove())

const MODULE = JSON.stringify(FUNCTIONS)

/** Runs a program. Its output begins with a line of JSON: the pids of its workers. */
async function program(code: string) {
  const client = runClient(code)
  const exited = once(client, 'exit')
  let output = ''
  client.stdout?.setEncoding('utf8').on('data', (text: string) => {
    output += text
  })
  const hasBegun = () => output.includes('\n') || client.exitCode !== null
  await until(hasBegun, 'the program has printed the pids of its workers')
  const pids: number[] = JSON.parse(output.slice(0, output.indexOf('\n')))
  expect(pids.every(Number.isInteger)).toBe(true)
  return { client, pids, exited, output: () => output }
}

const printPids = 'console.log(JSON.stringify((await pool.info()).workers.map(({ pid }) => pid)))'

/** The processes that this or another process has started: workers, and the orphan reaper. */
const childrenOf = (pid: number): number[] =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number)

const openFiles = () => readdirSync('/proc/self/fd').length

describe('an owned pool', () => {
  const farm = sharedFarm()

  it('lets its program exit after close()', async () => {
    const client = runClient(
      `const pool = new Pool(${JSON.stringify(farm.address)}, { processes: 1 })
       pool.apply('add', [1, 2]).then(console.log)
       pool.close()`,
    )
    const output = await new Promise((resolve) => client.stdout?.once('data', (data) => resolve(String(data))))
    const code = await new Promise((resolve) => client.once('exit', resolve))
    expect([output, code]).toEqual(['3\n', 0])
  })
})

describe('Pool.local', () => {
  it('passes its options on, with initargs of every type', async () => {
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
    [{ graceMs: -1 }, 'BAD_REQUEST', /graceMs is -1; it must be an integer, 0 or more/],
    [{ maxHeapMb: 0 }, 'BAD_REQUEST', /maxHeapMb is 0/],
    [{ output: 'pipe' as never }, 'BAD_REQUEST', /output is "pipe"; it must be 'inherit', 'ignore' or a function/],
  ])('fails to start with %o: %s, and leaves no process', async (options, reason, message) => {
    const before = childrenOf(process.pid)
    await expect(Pool.local(FUNCTIONS, options)).rejects.toMatchObject({
      reason,
      message: expect.stringMatching(message),
    })
    await until(() => childrenOf(process.pid).every((pid) => before.includes(pid)), 'its processes are gone')
  })

  it('does not load gRPC', async () => {
    const { exited, output } = await program(
      `const pool = await Pool.local(${MODULE}, { processes: 1 })
       ${printPids}
       const { default: module } = await import('node:module')
       console.log(await pool.apply('add', [1, 2]), Object.keys(module._cache).filter((path) => path.includes('@grpc')))`,
    )
    await exited
    expect(output().split('\n')[1]).toBe('3 []')
  })

  it('opens and ends 50 times, and leaves no process and no open file', async () => {
    const before = { children: childrenOf(process.pid).length, files: openFiles() }
    for (let round = 0; round < 50; round++) {
      const pool = await Pool.local(FUNCTIONS, { processes: 1 })
      expect(await pool.apply('add', [round, 1])).toBe(round + 1)
      if (round % 2 === 0) await pool.terminate()
      else {
        await pool.close()
        await pool.join()
      }
    }
    await until(() => childrenOf(process.pid).length === before.children, 'the last process is gone')
    await until(() => openFiles() <= before.files, 'all files are closed')
  })

  it('shares one orphan reaper with the other local pools of its program', async () => {
    const { client, pids, exited } = await program(
      `const pools = await Promise.all([1, 2, 3].map(() => Pool.local(${MODULE}, { processes: 1 })))
       const infos = await Promise.all(pools.map((pool) => pool.info()))
       console.log(JSON.stringify(infos.flatMap(({ workers }) => workers.map(({ pid }) => pid))))
       await pools[0].apply('spin')`,
    )
    expect(childrenOf(client.pid ?? 0)).toHaveLength(pids.length + 1)
    client.kill('SIGKILL')
    await exited
    await until(() => !pids.some(isAlive), 'all workers are gone')
  })

  it.each(['SIGKILL', 'SIGINT', 'SIGTERM'] as const)(
    'ends with its program: %s in the middle of a map',
    async (signal) => {
      const { client, pids, exited } = await program(
        `const pool = await Pool.local(${MODULE}, { processes: 2 })
       ${printPids}
       await pool.map('spin', [1, 2, 3, 4])`,
      )
      await until(async () => pids.every((pid) => isBusy(pid)), 'both workers are in their loops')
      client.kill(signal)
      await exited
      await until(() => !pids.some(isAlive), 'its workers are gone')
    },
  )

  it.each([
    ['process.exit(3)', 3],
    ["throw new Error('a fault of the program')", 1],
  ])('ends with its program: %s while a function is in an endless loop', async (end, code) => {
    const { pids, exited } = await program(
      `const pool = await Pool.local(${MODULE}, { processes: 1 })
       ${printPids}
       pool.applyAsync('spin')
       await new Promise((resolve) => setImmediate(resolve))
       process.stderr.write = () => true
       ${end}`,
    )
    expect((await exited)[0]).toBe(code)
    await until(() => !pids.some(isAlive), 'its worker is gone')
  })

  it('ends with its program also while an initializer runs', async () => {
    const file = folder.path('initializing')
    const client = runClient(
      `await Pool.local(${MODULE}, { initializer: 'hangWhileInitializing', initargs: [${JSON.stringify(file)}], processes: 1 })`,
    )
    await until(() => existsSync(file), 'the worker is in its initializer')
    const pid = Number(readFileSync(file, 'utf8'))
    client.kill('SIGKILL')
    await until(() => !isAlive(pid), 'its worker is gone')
  })

  it('does not keep its program alive when it is idle', async () => {
    const { pids, exited } = await program(
      `const pool = await Pool.local(${MODULE}, { processes: 1 })
       ${printPids}
       await pool.apply('add', [1, 2])`,
    )
    expect((await exited)[0]).toBe(0)
    await until(() => !pids.some(isAlive), 'its workers are gone')
  })

  it('keeps its program alive while it has a call', async () => {
    const go = folder.path('go')
    const { exited, output } = await program(
      `const pool = await Pool.local(${MODULE}, { processes: 1 })
       ${printPids}
       pool.applyAsync('waitFor', [${JSON.stringify(folder.path('begun'))}, ${JSON.stringify(go)}, 'done']).get().then(console.log)`,
    )
    await until(() => existsSync(folder.path('begun')), 'the call is running')
    writeFileSync(go, '')
    expect((await exited)[0]).toBe(0)
    expect(output()).toContain('done')
  })

  it('loses nothing while its program computes for longer than a worker may hang', async () => {
    const { exited, output } = await program(
      `const pool = await Pool.local(${MODULE}, { processes: 2 })
       ${printPids}
       const results = [1, 2, 3, 4, 5].map((n) => pool.applyAsync('square', [n]))
       const pids = (await pool.info()).workers.map(({ pid }) => pid)
       const until = Date.now() + 12_000
       while (Date.now() < until);
       console.log(JSON.stringify(await Promise.all(results)))
       console.log(JSON.stringify((await pool.info()).workers.map(({ pid }) => pid)) === JSON.stringify(pids))`,
    )
    await exited
    expect(output().split('\n').slice(1, 3)).toEqual(['[1,4,9,16,25]', 'true'])
  })

  it('works in a worker thread, whose end is the end of its workers', async () => {
    const { exited, output } = await program(
      `import { on } from 'node:events'
       import { Worker } from 'node:worker_threads'
       const code = 'import { Pool } from ' + JSON.stringify(${JSON.stringify(new URL('../../dist/client/index.js', import.meta.url).href)}) + ${JSON.stringify(`
         import { parentPort } from 'node:worker_threads'
         const pool = await Pool.local(${MODULE}, { processes: 1 })
         parentPort.postMessage((await pool.info()).workers.map(({ pid }) => pid))
         parentPort.postMessage(await pool.map('square', [1, 2, 3]))
         pool.applyAsync('spin')
       `)}
       const worker = new Worker(new URL('data:text/javascript,' + encodeURIComponent(code)))
       const messages = on(worker, 'message')
       const [pids] = (await messages.next()).value
       console.log(JSON.stringify(pids))
       console.log(JSON.stringify((await messages.next()).value[0]))
       await worker.terminate()
       const { readFileSync } = await import('node:fs')
       // Nobody waits for a child of a thread that has ended, so it stays a zombie until the program ends.
       const alive = () => !readFileSync('/proc/' + pids[0] + '/stat', 'utf8').includes(') Z ')
       while (alive()) await new Promise((resolve) => setTimeout(resolve, 10))
       console.log('gone')`,
    )
    expect((await exited)[0]).toBe(0)
    expect(output().split('\n').slice(1, 3)).toEqual(['[1,4,9]', 'gone'])
  })
})

describe('what the functions of a local pool print', () => {
  it('goes to the standard output and standard error of the program, line by line, before the result of the call', async () => {
    const { exited, output } = await program(
      `const pool = await Pool.local(${MODULE}, { processes: 1 })
       ${printPids}
       process.stderr.write = (text) => process.stdout.write('err ' + text)
       await pool.apply('print', ['one\\ntwo'])
       await pool.apply('printError', ['three'])
       console.log('result')`,
    )
    await exited
    expect(output().split('\n').slice(1, 7).sort()).toEqual([
      'err one',
      'err three',
      'err two (stderr)',
      'one',
      'result',
      'two',
    ])
    expect(output().trim().endsWith('result')).toBe(true)
  })

  it('goes to a function, or nowhere', async () => {
    const lines: unknown[] = []
    await using pool = await Pool.local(FUNCTIONS, { processes: 1, output: (line) => lines.push(line) })
    await pool.apply('print', ['out'])
    const [pid] = await workerPids(pool)
    expect(lines).toEqual(
      expect.arrayContaining([
        { text: 'out', stream: 'stdout', pid },
        { text: 'out (stderr)', stream: 'stderr', pid },
      ]),
    )
    const { exited, output } = await program(
      `const pool = await Pool.local(${MODULE}, { processes: 1, output: 'ignore' })
       ${printPids}
       await pool.apply('print', ['silence'])`,
    )
    await exited
    expect(output()).not.toContain('silence')
  })

  it('may be 10 MB, and nothing is lost', async () => {
    let bytes = 0
    await using pool = await Pool.local(FUNCTIONS, {
      processes: 1,
      output: ({ text }) => {
        bytes += text.length + 1
      },
    })
    await pool.apply('printLines', [100_000, 'x'.repeat(99)])
    expect(bytes).toBe(10_000_000)
  })
})

describe('a worker of a local pool', () => {
  it('that dies fails its call alone, and is replaced', async () => {
    await using pool = await Pool.local(FUNCTIONS, { processes: 2 })
    const others = pool.mapAsync('square', [1, 2, 3, 4], { chunksize: 1 })
    expect(await errorOf(pool.apply('killSelf'))).toMatchObject({ reason: 'WORKER_CRASHED', signal: 'SIGKILL' })
    expect(await others).toEqual([1, 4, 9, 16])
    expect(await pool.apply('crashUntilAttempt', [2], undefined, { retries: 1 })).toBe(2)
  })

  it('returns 64 MiB', async () => {
    await using pool = await Pool.local(FUNCTIONS, { processes: 1 })
    const large = new Uint8Array(64 * 1024 * 1024).fill(7)
    const echoed = await pool.apply<'identity'>('identity', [large])
    expect(Buffer.compare(large, echoed as Uint8Array)).toBe(0)
  })
})

/** Whether the process has used the CPU lately: an endless loop does. */
function isBusy(pid: number): boolean {
  const ticks = Number(readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ')[11])
  return ticks > 20
}
