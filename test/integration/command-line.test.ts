import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { sharedFarm } from '../support/farm.js'
import { farpool, ServerProcess } from '../support/server.js'

const farm = sharedFarm({ args: ['--processes', '2'] })
const run = (args: string[], input?: string) => farpool([...args, '--address', farm.address], input)

describe('farpool call', () => {
  it('prints the result as JSON, and takes arguments as JSON or plain text', async () => {
    expect(await run(['call', 'add', '1', '2'])).toEqual({ code: 0, stdout: '3\n', stderr: '' })
    expect((await run(['call', 'collect', 'Ann', '{"a":[1]}', 'true', '"1"'])).stdout.replace(/\s/g, '')).toBe(
      '["Ann",{"a":[1]},true,"1"]',
    )
    expect((await run(['call', 'greet', 'Ann', '--kwargs', '{"mark":"?"}'])).stdout).toBe('"Hello, Ann?"\n')
    expect((await run(['call', 'giveBack', 'undefined'])).stdout).toBe('null\n')
  })

  it('prints one object for a result and for an error with --json', async () => {
    expect(JSON.parse((await run(['call', 'add', '1', '--json'])).stdout)).toEqual({ ok: true, result: 1 })
    const failed = await run(['call', 'throwIt', 'cause', '--json'])
    expect(failed.code).toBe(1)
    expect(JSON.parse(failed.stdout)).toMatchObject({
      ok: false,
      error: { message: 'outer', reason: 'FUNCTION_ERROR', code: 'UNKNOWN' },
    })
  })

  it('exits with 1 if the call fails, and prints the stack of the function', async () => {
    const { code, stdout, stderr } = await run(['call', 'throwIt', 'cause'])
    expect([code, stdout]).toEqual([1, ''])
    expect(stderr).toMatch(/^farpool: outer \(FUNCTION_ERROR\)\nTypeError: outer\n\s+at throwIt/)
    expect((await run(['call', 'sqare', '2'])).stderr).toContain('did you mean square?')
  })

  it('exits with 3 if no server answers', async () => {
    const { code, stderr } = await farpool(['call', 'add', '1', '--address', '127.0.0.1:1'])
    expect(code).toBe(3)
    expect(stderr).toContain('CONNECTION_FAILED')
  })

  it('fails if JSON cannot carry the result', async () => {
    expect(await run(['call', 'giveBack', 'NaN'])).toMatchObject({
      code: 1,
      stdout: '',
      stderr: expect.stringContaining('RESULT_ENCODE_FAILED'),
    })
  })
})

describe('farpool map', () => {
  it('writes one line for each line of the input, in order', async () => {
    const [input, output] = [farm.path('in.jsonl'), farm.path('out.jsonl')]
    const items = Array.from({ length: 1000 }, (_, i) => i)
    writeFileSync(input, items.map((i) => `${i}\n`).join(''))
    const { code, stdout } = await run(['map', 'square', '--input', input, '--output', output, '--chunksize', '10'])
    expect([code, stdout]).toEqual([0, ''])
    expect(readFileSync(output, 'utf8')).toBe(items.map((i) => `${i * i}\n`).join(''))
  })

  it('reads standard input and writes standard output; --unordered writes each result once', async () => {
    expect((await run(['map', 'identity'], '1\n\n"two"\n{"three":3}')).stdout).toBe('1\n"two"\n{"three":3}\n')
    const { stdout } = await run(['map', 'square', '--unordered'], '1\n2\n\n3\n')
    expect(stdout.trim().split('\n').sort()).toEqual([
      '{"index":0,"value":1}',
      '{"index":1,"value":4}',
      '{"index":2,"value":9}',
    ])
  })

  it('stops at an item that fails, or writes its error and goes on with --keep-going', async () => {
    const input = '12\n13\n14\n{oops\n15\n'
    const stopped = await run(['map', 'notThirteen'], input)
    expect(stopped).toMatchObject({ code: 1, stdout: '12\n', stderr: expect.stringContaining('line 2: 13 is unlucky') })
    const going = await run(['map', 'notThirteen', '--keep-going', '--chunksize', '2'], input)
    expect(going.code).toBe(1)
    expect(going.stdout.split('\n').map((line) => line && JSON.parse(line))).toMatchObject([
      { index: 0, value: 12 },
      { index: 1, error: { message: '13 is unlucky', reason: 'FUNCTION_ERROR' } },
      { index: 2, value: 14 },
      { index: 3, error: { message: expect.stringContaining('line 4 of the input is not JSON') } },
      { index: 4, value: 15 },
      '',
    ])
  })

  it('names a line that is not JSON and a file that does not exist, and does not overwrite the output', async () => {
    const output = farm.path('old.jsonl')
    writeFileSync(output, 'old')
    expect(await run(['map', 'square', '--output', output], '{oops\n')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('line 1 of the input is not JSON'),
    })
    expect(await run(['map', 'square', '--input', farm.path('nowhere')])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('cannot read --input'),
    })
    expect(await run(['map', 'nothing', '--output', output], '1\n')).toMatchObject({ code: 1 })
    expect(readFileSync(output, 'utf8')).toBe('old')
    expect(existsSync(farm.path('nowhere'))).toBe(false)
  })
})

describe('farpool functions, info, health', () => {
  it('lists names, parameters and modules', async () => {
    const { stdout } = await run(['functions', '--json'])
    expect(JSON.parse(stdout).functions).toContainEqual(
      expect.objectContaining({ name: 'square', parameters: 1, module: 'functions.mjs', retries: 0 }),
    )
    expect((await run(['functions'])).stdout).toMatch(/^square +1 parameter {2}functions\.mjs$/m)
  })

  it('shows the server, its pool and its workers', async () => {
    const info = JSON.parse((await run(['info', '--json'])).stdout)
    expect(info).toMatchObject({
      pool: 'default',
      shared: true,
      state: 'open',
      processes: 2,
      server: { runtime: `node ${process.version}` },
    })
    expect(info.workers).toHaveLength(2)
    expect((await run(['info'])).stdout).toMatch(/pool default: open, 2 processes/)
  })

  it('prints SERVING, or UNREACHABLE with exit code 3 if no server answers', async () => {
    expect(await run(['health'])).toMatchObject({ code: 0, stdout: 'SERVING\n' })
    expect(await farpool(['health', '--address', '127.0.0.1:1'])).toMatchObject({ code: 3, stdout: 'UNREACHABLE\n' })
  })
})

describe('the address of a command', () => {
  const health = async (env: NodeJS.ProcessEnv, ...args: string[]) =>
    (await farpool(['health', ...args], '', { http_proxy: 'http://127.0.0.1:1', ...env })).stdout.trim()

  it('is that of --address, else FARPOOL_ADDRESS, else where FARPOOL_LISTEN has the server listen', async () => {
    const nowhere = '127.0.0.1:1'
    expect(await health({ FARPOOL_LISTEN: farm.address })).toBe('SERVING')
    expect(await health({ FARPOOL_LISTEN: farm.address.replace('127.0.0.1', '0.0.0.0') })).toBe('SERVING')
    expect(await health({ FARPOOL_LISTEN: farm.address.replace('127.0.0.1', '[::]') })).toBe('SERVING')
    expect(await health({ FARPOOL_LISTEN: nowhere, FARPOOL_ADDRESS: farm.address })).toBe('SERVING')
    expect(await health({ FARPOOL_LISTEN: farm.address, FARPOOL_ADDRESS: nowhere })).toBe('UNREACHABLE')
    expect(await health({ FARPOOL_ADDRESS: nowhere }, '--address', farm.address)).toBe('SERVING')
    expect(await health({}, '--address', `ipv4:${farm.address}`)).toBe('SERVING')
  })

  it('may be a Unix socket', async () => {
    const listen = `unix:${farm.path('health.sock')}`
    await using _server = await ServerProcess.start(['--processes', '1', '--listen', listen])
    expect(await health({ FARPOOL_LISTEN: listen })).toBe('SERVING')
  })
})

describe('farpool --help', () => {
  it('names every command and the exit codes', async () => {
    const { code, stdout } = await farpool(['--help'])
    expect(code).toBe(0)
    for (const word of ['serve', 'call', 'map', 'functions', 'info', 'health', 'Exit codes'])
      expect(stdout).toContain(word)
  })
})
