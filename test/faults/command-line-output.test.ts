import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { dirname } from 'node:path'
import { describe, expect, it } from 'vitest'
import { sharedFarm } from '../support/farm.js'
import { CLI, farpool, temporaryFolder } from '../support/server.js'

const farm = sharedFarm({
  module: `
    export * from ${JSON.stringify(new URL('../support/functions.mjs', import.meta.url).href)}
    export const red = (text) => { throw Object.assign(new Error(text), { name: text }) }
    export { red as 'r\\u001b[31mx\\ny' }
    export const later = (ms) => new Promise((resolve) => setTimeout(resolve, ms, ms))
  `,
  args: ['--processes', '1'],
})
const run = (args: string[], input?: string) => farpool([...args, '--address', farm.address], input)

/** Runs a line of shell, in which \`farpool\` is the command with the server's address. */
async function shell(line: string): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const define = `farpool() { "${process.execPath}" "${CLI}" "$@"; }`
  const env = { ...process.env, FARPOOL_ADDRESS: farm.address }
  const child = spawn('bash', ['--norc', '-o', 'pipefail', '-c', `${define}\n${line}`], {
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const texts = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (text: string) => {
      texts[name] += text
    })
  }
  const [code] = await once(child, 'close')
  return { code: code as number | null, ...texts }
}

const numbers = (count: number) => Array.from({ length: count }, (_, i) => `${i}\n`).join('')

describe('the output of farpool map', () => {
  it('is checked before any function runs: its folder, a folder in its place, the input itself', async () => {
    const input = farm.fresh()
    writeFileSync(input, numbers(100_000))
    for (const [output, why] of [
      ['/nope/x', /cannot write --output \/nope\/x: .*\/nope/],
      [`${input}/x`, /not a directory/],
      [dirname(input), /it is a directory/],
      [input, /it is the input/],
    ] as const) {
      const args = ['map', 'exit', '-i', input, '-o', output]
      expect(await run(args)).toMatchObject({ code: 2, stdout: '', stderr: expect.stringMatching(why) })
      const { code, stdout, stderr } = await run([...args, '--json'])
      expect([code, stderr]).toEqual([2, ''])
      expect(JSON.parse(stdout)).toMatchObject({
        ok: false,
        error: { message: expect.stringMatching(why), reason: 'BAD_REQUEST', code: 'INVALID_ARGUMENT' },
      })
    }
    expect(readFileSync(input, 'utf8')).toBe(numbers(100_000))
  })

  it('that cannot be written fails with one line, for a file and for standard output', async () => {
    const input = farm.fresh()
    writeFileSync(input, numbers(20_000))
    const full = await shell(`farpool map identity -c 100 -i ${input} -o /dev/full`)
    expect(full).toMatchObject({ code: 1, stdout: '' })
    expect(full.stderr).toMatch(/^farpool: cannot write --output \/dev\/full: ENOSPC.*\n$/)
    for (const command of [
      `map identity -i ${input}`,
      'call add 1 2',
      'functions',
      'info --json',
      'health',
      'completion bash',
    ]) {
      const { code, stderr } = await shell(`farpool ${command} > /dev/full`)
      expect([command, code, stderr]).toEqual([
        command,
        1,
        expect.stringMatching(/^farpool: cannot write standard output: ENOSPC.*\n$/),
      ])
    }
  })

  it('may lose its reader: the command ends in silence, and its calls with it', async () => {
    const input = farm.fresh()
    writeFileSync(input, numbers(100_000))
    expect(await shell(`farpool map identity -i ${input} | head -1`)).toEqual({ code: 0, stdout: '0\n', stderr: '' })
    expect((await shell('farpool --help | true')).stderr).toBe('')
    expect((await shell('farpool call throwIt cause 2>&1 | true')).stdout).toBe('')
  })

  it('is emptied where the input is empty', async () => {
    const output = farm.fresh()
    writeFileSync(output, 'yesterday')
    const { code, stdout } = await run(['map', 'square', '-o', output, '--json'], '\n\n')
    expect([code, JSON.parse(stdout)]).toEqual([0, { ok: true, items: 0, failed: 0 }])
    expect(readFileSync(output, 'utf8')).toBe('')
  })

  it('has all results before a line that fails', async () => {
    const output = farm.fresh()
    const { code, stdout } = await run(['map', 'notThirteen', '-o', output, '--json'], numbers(20))
    expect(code).toBe(1)
    expect(readFileSync(output, 'utf8')).toBe(numbers(13))
    expect(JSON.parse(stdout)).toMatchObject({ ok: false, error: { reason: 'FUNCTION_ERROR', index: 13, line: 14 } })
  })
})

describe('the input of farpool map', () => {
  it('that cannot be read fails with one line', async () => {
    for (const redirected of ['< /', '-i /']) {
      const { code, stderr } = await shell(`farpool map square ${redirected}`)
      expect([code, stderr]).toEqual([2, expect.stringMatching(/^farpool: cannot read --input .*directory.*\n$/)])
    }
    expect((await shell('farpool map square <&-')).code).toBe(0)
  })

  it('is UTF-8, with or without a byte order mark, with any ends of lines', async () => {
    expect((await run(['map', 'identity'], '\ufeff"ä"\r\n2')).stdout).toBe('"ä"\n2\n')
    const { code, stderr } = await shell(`printf '1\\n"\\xff"\\n' | farpool map identity`)
    expect([code, stderr]).toEqual([2, expect.stringContaining('line 2 of the input is not UTF-8')])
  })
})

describe('farpool map', () => {
  it('ends when it has failed, although its input goes on', async () => {
    const child = spawn(process.execPath, [CLI, 'map', 'exit', '--address', farm.address], {
      stdio: ['pipe', 'ignore', 'ignore'],
    })
    child.stdin.write('3\n')
    expect(await once(child, 'exit')).toEqual([1, null])
  })

  it('takes arguments from each line with --star', async () => {
    expect((await run(['map', 'power', '--star'], '[2,3]\n[3,2]\n')).stdout).toBe('8\n9\n')
    const { stdout } = await run(['map', 'power', '--star', '--keep-going'], '[2,3]\n5\n[3,2]\n')
    expect(stdout.split('\n').map((line) => line && JSON.parse(line))).toMatchObject([
      { index: 0, value: 8 },
      { index: 1, error: { message: expect.stringContaining('array') } },
      { index: 2, value: 9 },
      '',
    ])
  })

  it('fails lines that run too long with --run-timeout: a line waits for those before it, which does not count', async () => {
    const { stdout } = await run(['map', 'later', '--run-timeout', '1500', '--keep-going'], '1000\n60000\n1000\n')
    expect(stdout.split('\n').map((line) => line && JSON.parse(line))).toMatchObject([
      { index: 0, value: 1000 },
      { index: 1, error: { reason: 'TASK_TIMEOUT', metadata: { phase: 'running' } } },
      { index: 2, value: 1000 },
      '',
    ])
  })

  it('fails lines that have no result in time with --timeout, as farpool call: the time in the queue counts', async () => {
    const { stdout } = await run(['map', 'later', '--timeout', '1500', '--keep-going'], '60000\n0\n')
    expect(stdout.split('\n').map((line) => line && JSON.parse(line))).toMatchObject([
      { index: 0, error: { reason: 'TASK_TIMEOUT', metadata: { phase: 'running', limit_ms: '1500' } } },
      { index: 1, error: { reason: 'TASK_TIMEOUT', metadata: { phase: 'queued', limit_ms: '1500' } } },
      '',
    ])
    const call = await run(['call', 'later', '60000', '--timeout', '1500', '--json'])
    expect(JSON.parse(call.stdout).error).toMatchObject({ reason: 'TASK_TIMEOUT', metadata: { limit_ms: '1500' } })
  })

  it('runs lines again with --retries', async () => {
    expect(await run(['map', 'crashUntilAttempt', '--retries', '1'], '2\n')).toMatchObject({ code: 0 })
    expect(await run(['map', 'crashUntilAttempt'], '2\n')).toMatchObject({ code: 1 })
  })

  it('does not go on with --keep-going where no line can succeed', async () => {
    const { code, stdout, stderr } = await run(['map', 'nothing', '--keep-going'], numbers(100))
    expect([code, stdout, stderr]).toEqual([1, '', expect.stringContaining('FUNCTION_NOT_FOUND')])
  })

  it('shows on a terminal how many results there are, and not how much it has read', async () => {
    const input = farm.fresh()
    writeFileSync(input, '200\n'.repeat(10))
    const { stdout } = await shell(
      `script -qec '"${process.execPath}" "${CLI}" map later -i ${input} -o /dev/null' /dev/null`,
    )
    const drawn = [...stdout.matchAll(/(\d+)% (\d+) /g)].map((match) => [Number(match[1]), Number(match[2])])
    expect(drawn.length).toBeGreaterThan(5)
    expect(drawn).toEqual(drawn.map(([, done = 0]) => [10 * done, done]))
    expect(drawn.at(-1)).toEqual([100, 10])
  })
})

describe('text of others', () => {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters that must not be there
  const CONTROL = /[\0-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e]/
  const evil = '\x1b[2J\x1b]0;title\x07\r\x7f\x9b31m\x85\u2028\u202e'

  it('does nothing to the terminal: messages, stacks, results, names', async () => {
    const texts = await Promise.all([
      run(['call', 'red', JSON.stringify(evil)]),
      run(['call', 'red', JSON.stringify(evil), '--json']),
      run(['call', 'identity', JSON.stringify(evil)]),
      run(['map', 'identity'], `${JSON.stringify(evil)}\n`),
      run(['map', 'red', '--keep-going'], `${JSON.stringify(evil)}\n`),
      run(['call', evil]),
      run(['functions']),
      run([evil]),
      run(['call', 'add', `[${evil}`]),
      run(['call', 'add', '--kwargs', evil]),
      run(['map', 'add', '--input', evil, '--json']),
      farpool(['call', 'add', '--address', evil]),
      farpool(['completion', evil]),
    ])
    for (const { stdout, stderr } of texts) {
      expect(stdout + stderr).not.toBe('')
      expect(stdout + stderr).not.toMatch(CONTROL)
    }
    expect(texts[0]?.stderr).toContain(String.raw`\u001b[2J`)
    expect(JSON.parse(texts[1]?.stdout ?? '').error.message).toBe(evil)
    expect(JSON.parse(texts[2]?.stdout ?? '')).toBe(evil)
    expect(texts[6]?.stdout).toContain(String.raw`r\u001b[31mx\u000ay`)
  })
})

describe('--json', () => {
  it('makes one object also of a wrong command line', async () => {
    for (const [args, message] of [
      [['call', '--json'], /missing required argument 'function'/],
      [['call', 'add', '--json', '--no-such'], /unknown option '--no-such'/],
      [['call', 'add', '--timeout', '0', '--json'], /--timeout/],
      [['call', 'add', '[1', '--json'], /looks like JSON/],
      [['map', 'add', '--json', '--chunksize', 'x'], /--chunksize/],
      [['nonsense', '--json'], /unknown/],
      [['--json'], /unknown option|no command/],
      [['functions', 'too', 'many', '--json'], /too many arguments/],
    ] as const) {
      const { code, stdout, stderr } = await farpool([...args])
      expect([args, code, stderr]).toEqual([args, 2, ''])
      expect(JSON.parse(stdout)).toEqual({
        ok: false,
        error: { message: expect.stringMatching(message), reason: 'BAD_REQUEST', code: 'INVALID_ARGUMENT' },
      })
    }
  })
})

describe('farpool serve', () => {
  it('says in one line that its port is in use', async () => {
    const other = createServer().listen(0, '127.0.0.1')
    await once(other, 'listening')
    const address = `127.0.0.1:${(other.address() as { port: number }).port}`
    const log = ['--log-format', 'pretty', '--log-level', 'error']
    const args = ['serve', farm.path('module.mjs'), '--processes', '1', '--listen', address, ...log]
    const { code, stderr } = await farpool(args)
    other.close()
    expect([code, stderr]).toEqual([
      2,
      `farpool: cannot listen on ${address}: it is in use; choose another, or port 0 for a free one (BAD_REQUEST)\n`,
    ])
  })

  it('names file and line of a syntax error, also in a file that the module imports', async () => {
    const folder = temporaryFolder()
    const write = (name: string, text: string) => writeFileSync(folder.path(name), text)
    write('esm.mjs', "import { sep } from 'node:path'\n\nexport const f = () => sep\nexport const g = ;\n")
    write('deep.mjs', "export * from './esm.mjs'\nexport default 5\n")
    write('common.cjs', 'const a = 1\nexports.f = ;\n')
    write('absent.mjs', "\nimport { nope } from './good.mjs'\nexport const f = () => nope\n")
    write('good.mjs', 'export const good = () => 1\n')
    for (const [module, place] of [
      ['esm.mjs', 'esm.mjs:4'],
      ['deep.mjs', 'esm.mjs:4'],
      ['common.cjs', 'common.cjs:2'],
      ['absent.mjs', 'absent.mjs:2'],
    ] as const) {
      const { code, stderr } = await farpool([
        'serve',
        folder.path(module),
        '--processes',
        '1',
        '--listen',
        '127.0.0.1:0',
      ])
      expect([module, code, stderr]).toEqual([module, 1, expect.stringContaining(`(${folder.path(place)})`)])
    }
    folder.remove()
  })
})

describe('farpool --version', () => {
  it('prints the version of the package', async () => {
    const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))
    expect(await farpool(['--version'])).toEqual({ code: 0, stdout: `${version}\n`, stderr: '' })
  })
})

describe('farpool completion', () => {
  const complete = async (...words: string[]) =>
    (await farpool(['__complete', '--', ...words])).stdout.split('\n').flatMap((line) => line.split('\t')[0] || [])

  it('completes commands, options, choices, and the functions of the server', async () => {
    expect(await complete('ca')).toEqual(['call'])
    expect(await complete('')).toEqual(expect.arrayContaining(['serve', 'map', 'completion']))
    expect(await complete('')).not.toContain('__complete')
    expect(await complete('map', '--u')).toEqual(['--unordered'])
    expect(await complete('serve', 'x.js', '--log-level', 'w')).toEqual(['warn'])
    expect(await complete('completion', 'z')).toEqual(['zsh'])
    expect(await complete('map', '--input', '')).toEqual([])
    expect(await complete('map', '--input', 'x', '-a', farm.address, 'squ')).toEqual(['square'])
    // A name that means something to a shell is not offered.
    expect(await complete('call', '-a', farm.address, 'r')).toEqual(['red', 'refuseWhile'])
    expect(await complete('call', '-a', '127.0.0.1:1', '')).toEqual([])
  })

  it('prints a script for each shell, which works in bash', async () => {
    for (const name of ['bash', 'zsh', 'fish'])
      expect((await farpool(['completion', name])).stdout).toContain('__complete')
    expect((await farpool(['completion', 'csh'])).code).toBe(2)
    const { stdout } = await shell(
      `source <(farpool completion bash); COMP_WORDS=(farpool map squ); COMP_CWORD=2; _farpool; echo "\${COMPREPLY[*]}"`,
    )
    expect(stdout).toBe('square\n')
  })
})
