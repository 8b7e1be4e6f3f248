import { mkdirSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { afterAll, describe, expect, it } from 'vitest'
import { FunctionTable } from '../../pool/function-table.js'
import { availableCpus } from '../../pool/process/available-cpus.js'
import { LineSplitter } from '../../pool/process/worker-output.js'
import type { ServeOptions } from '../../server/config.js'
import { OutputThrottle } from '../../server/ops/log.js'
import { resolveConfig } from '../../server/resolve-config.js'
import { serve } from '../../server/serve.js'
import { pieces } from '../../worker/output-capture.js'
import { FUNCTIONS, temporaryFolder } from '../support/server.js'

describe('lines', () => {
  it('are cut as they come, also in pieces, and belong to the task that printed them', () => {
    const splitter = new LineSplitter('stdout')
    expect(splitter.push('one\ntw', 1).map(({ text }) => text)).toEqual(['one'])
    expect(splitter.push('o\r\n\nthree', 1).map(({ text }) => text)).toEqual(['two', ''])
    expect(splitter.push('four\n', 2)).toEqual([
      { stream: 'stdout', task: 1, text: 'three' },
      { stream: 'stdout', task: 2, text: 'four' },
    ])
    expect(splitter.flush()).toEqual([])
  })

  it('that never end are handed on in pieces, and nothing is lost', () => {
    const splitter = new LineSplitter('stderr')
    const lines = Array.from({ length: 10 }, () => splitter.push('x'.repeat(10_000), 1)).flat()
    expect([...lines, ...splitter.flush()].map(({ text }) => text).join('')).toBe('x'.repeat(100_000))
  })
})

describe('what is printed', () => {
  it.each([
    ['', 0],
    ['x'.repeat(16 * 1024), 1],
    ['y'.repeat(100_000), 7],
    ['😀'.repeat(20_000), 3],
    [`z${'😀'.repeat(20_000)}`, 3],
  ])('%.5s… is sent in pieces that are whole characters', (text, count) => {
    const sent = [...pieces(text)]
    expect(sent.join('')).toBe(text)
    expect(sent.length).toBe(count)
    for (const piece of sent) expect(Buffer.from(piece).toString()).toBe(piece)
  })

  it('in one turn of the event loop is logged on only after others, one after another', async () => {
    const turns = new OutputThrottle()
    let turn = 0
    let isOver = false
    const count = () => {
      turn++
      if (!isOver) setImmediate(count)
    }
    setImmediate(count)
    expect(turns.take(10)).toBeUndefined()
    const resumed = await Promise.all(
      [turns.take(1_000), turns.take(1), turns.take(1)].map((mine) => mine?.then(() => turn)),
    )
    expect(turns.take(1)).toBeUndefined()
    isOver = true
    expect(new Set(resumed).size).toBe(3)
    expect(resumed).toEqual([...resumed].sort((a = 0, b = 0) => a - b))
  })
})

describe('the functions', () => {
  const table = new FunctionTable(
    ['thumbnail', 'fib', 'constructor2'].map((name) => ({
      name,
      parameters: 1,
      module: 'm.js',
      retries: 0,
      runTimeoutMs: 0,
      neverKilled: false,
    })),
  )

  it.each([
    ['thumbnial', 'did you mean thumbnail?'],
    ['fbi', 'did you mean fib?'],
    ['THUMBNAIL', 'did you mean thumbnail?'],
    ['nothing like it', 'registered: constructor2, fib, thumbnail'],
    ['', 'registered: '],
    ['x'.repeat(1_000_000), 'registered: '],
  ])('%.20s: %s', (name, hint) => {
    expect(table.unknown(name).message).toContain(hint)
  })
})

describe('the CPUs of a container', () => {
  const folder = temporaryFolder()
  afterAll(() => folder.remove())

  it.each([
    ['200000 100000', 2],
    ['50000 100000', 1],
    ['150000 100000', 2],
    ['max 100000', availableParallelism()],
  ])('cpu.max %s are %i', (max, cpus) => {
    writeFileSync(folder.path('cpu.max'), `${max}\n`)
    expect(availableCpus(folder.path(''))).toBe(Math.min(cpus, availableParallelism()))
  })

  it('are those of the machine where there is no quota, also with cgroup v1', () => {
    expect(availableCpus('/nowhere')).toBe(availableParallelism())
    mkdirSync(folder.path('v1/cpu'), { recursive: true })
    writeFileSync(folder.path('v1/cpu/cpu.cfs_quota_us'), '-1')
    writeFileSync(folder.path('v1/cpu/cpu.cfs_period_us'), '100000')
    expect(availableCpus(folder.path('v1'))).toBe(availableParallelism())
    writeFileSync(folder.path('v1/cpu/cpu.cfs_quota_us'), '100000')
    expect(availableCpus(folder.path('v1'))).toBe(1)
  })
})

describe('the options of serve', () => {
  const modules = [FUNCTIONS]

  it.each<[Partial<ServeOptions>, string]>([
    [{ modules: [] }, 'modules is []'],
    [{ modules: FUNCTIONS as never }, '; it must be an array with at least one path'],
    [{ modules: ['file://host/m.js'] }, 'the module is file://host/m.js, which is no file: URL of a file'],
    [{ modules: ['./nowhere.js'] }, 'there is no module'],
    [{ listen: 'localhost' }, 'listen is "localhost"; it must be host:port'],
    [{ listen: 'localhost:99999' }, 'listen is'],
    [{ processes: 0 }, 'processes is 0; it must be an integer, from 1 to 1024'],
    [{ processes: 1.5 }, 'processes is 1.5'],
    [{ maxTasksPerChild: -1 }, 'max-tasks-per-child is -1'],
    [{ maxRunningPerClient: 0 }, 'max-running-per-client is 0; it must be an integer, from 1 to 1024'],
    [{ maxRunningPerClient: 1_025 }, 'max-running-per-client is 1025'],
    [{ workerNice: -1 }, 'worker-nice is -1; it must be an integer, from 0 to 19'],
    [{ workerNice: 20 }, 'worker-nice is 20'],
    [{ graceMs: -1 }, 'grace is -1'],
    [{ initargs: [1] }, 'initargs is given without an initializer'],
    [{ maxMessageBytes: 2 ** 40 }, 'max-message-bytes'],
    [{ tlsCert: 'cert.pem' }, 'tls-cert is given without tls-key'],
    [{ tlsKey: 'key.pem' }, 'tls-key is given without tls-cert'],
    [{ tlsClientCa: 'ca.pem' }, 'tls-client-ca is given without tls-cert'],
    [{ tlsCert: '' }, 'tls-cert is ""; it must be the path of a file'],
  ])('%j are refused: %s', (options, message) => {
    expect(() => resolveConfig({ modules, ...options })).toThrow(message)
  })

  it.each<Partial<ServeOptions>>([
    { listen: '0.0.0.0:1' },
    { listen: '[::]:1' },
    { listen: 'example.org:1' },
    { listen: '0.0.0.0:1', tlsCert: 'c', tlsKey: 'k' },
    { listen: '0.0.0.0:1', tokens: 't' },
  ])('%j are refused: other machines can reach it, and nothing tells clients from strangers', (options) => {
    const make = () => resolveConfig({ modules, ...options })
    expect(make).toThrow(`listen is ${JSON.stringify(options.listen)}, which other machines can reach`)
    const ways = ['--tls-cert', '--tls-key', '--tokens', '--tls-client-ca', 'Unix socket', '--insecure']
    for (const way of ways) expect(make).toThrow(way)
  })

  it.each<Partial<ServeOptions>>([
    { listen: '0.0.0.0:1', insecure: true },
    { listen: '0.0.0.0:1', tlsCert: 'c', tlsKey: 'k', tlsClientCa: 'a' },
    { listen: '0.0.0.0:1', tlsCert: 'c', tlsKey: 'k', tokens: 't' },
    { listen: '127.0.0.1:1' },
    { listen: 'unix:/tmp/x' },
  ])('%j are safe, or said to be', (options) => {
    expect(resolveConfig({ modules, ...options })).toMatchObject({ listen: options.listen })
  })

  it('with initargs that cannot be sent are refused: the position of the argument is in the message', async () => {
    await expect(serve({ modules, initializer: 'initialize', initargs: [1, () => 1] })).rejects.toMatchObject({
      reason: 'ARGUMENT_ENCODE_FAILED',
      message: expect.stringMatching(/^argument 2 of initargs cannot be sent: /),
    })
  })

  it.each([
    ['127.0.0.1:0', true],
    ['localhost:1', true],
    ['[::1]:1', true],
    ['unix:/tmp/x', true],
    ['0.0.0.0:1', false],
    ['example.org:1', false],
  ])('on %s stacks are sent: %s', (listen, stacks) => {
    const insecure = true
    expect(resolveConfig({ modules, listen, insecure }).stacks).toBe(stacks)
    expect(resolveConfig({ modules, listen, insecure, stacks: !stacks }).stacks).toBe(!stacks)
  })
})
