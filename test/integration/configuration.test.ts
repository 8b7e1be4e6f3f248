import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { afterAll, describe, expect, it } from 'vitest'
import { CLI, FUNCTIONS, ServerProcess, temporaryFolder } from '../support/server.js'

const folder = temporaryFolder()
afterAll(() => folder.remove())

/** Writes a configuration file and returns its path. */
function file(text: string): string {
  const path = `${folder.fresh()}.yaml`
  writeFileSync(path, text)
  return path
}

/** Runs a command with further variables of the environment. */
async function farpool(args: string[], env: Record<string, string> = {}) {
  const child = spawn(process.execPath, [CLI, ...args], {
    env: { ...process.env, FARPOOL_LOG_FORMAT: 'pretty', ...env },
  })
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', (text: Buffer) => {
    stdout += text
  })
  child.stderr.on('data', (text: Buffer) => {
    stderr += text
  })
  const [code] = await once(child, 'close')
  return { code: code as number | null, stdout, stderr }
}

/** The lines of `--print-config` for these options, by name: value and source. */
async function printed(args: string[], env: Record<string, string> = {}): Promise<Record<string, string>> {
  const { code, stdout, stderr } = await farpool(['serve', '--print-config', ...args], env)
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  return Object.fromEntries(
    stdout
      .trim()
      .split('\n')
      .map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2)]),
  )
}

describe('an option', () => {
  it('comes from the command line, else from the environment, else from the file, else it is the default', async () => {
    const config = file(`modules: [${FUNCTIONS}]\nprocesses: 5\nmax-queued: 6\ngrace: 7\n`)
    const env = { FARPOOL_CONFIG: config, FARPOOL_PROCESSES: '4', FARPOOL_MAX_QUEUED: '8' }
    const shown = await printed(['--processes', '3'], env)
    expect(shown).toMatchObject({
      processes: '3 # --processes',
      'max-queued': '8 # FARPOOL_MAX_QUEUED',
      'max-queued-per-client': '8 # default',
      grace: `7 # grace in ${config}`,
      drain: '30000 # default',
      modules: `${JSON.stringify([FUNCTIONS])} # modules in ${config}`,
      '# max-heap-mb': 'chosen by Node',
    })
  })

  it('of the command line takes the place of one in the file that excludes it', async () => {
    const config = file(`modules: [./missing.mjs]\ninitializer: init\ninitargs: [1]\n`)
    writeFileSync(folder.path('args.json'), '[2]')
    const shown = await printed([FUNCTIONS, '--config', config, '--initargs-file', folder.path('args.json')])
    expect(shown['initargs-file']).toBe(`${JSON.stringify(folder.path('args.json'))} # --initargs-file`)
    expect(shown['modules']).toBe(`${JSON.stringify([FUNCTIONS])} # the command line`)
  })

  it('of the printed configuration can be given as a file again', async () => {
    const args = [FUNCTIONS, '--processes', '3', '--run-timeout', '50', '--allow-terminate', '--log-level', 'warn']
    const { stdout } = await farpool(['serve', '--print-config', ...args])
    const again = await farpool(['serve', '--print-config', '--config', file(stdout)])
    const values = (text: string) => text.replaceAll(/ # .*$/gm, '')
    expect(values(again.stdout)).toBe(values(stdout))
  })

  it('that may hold secrets is not printed', async () => {
    const shown = await printed([FUNCTIONS, '--initializer', 'init', '--initargs', '["hunter2"]'])
    expect(shown['initargs']).toBe('"(secret)" # --initargs')
    const { code, stderr } = await farpool(['serve', FUNCTIONS, '--initializer', 'init', '--initargs', 'hunter2'])
    expect(code).toBe(2)
    expect(stderr).toContain('--initargs is of the wrong form; it must be a JSON array')
    expect(stderr).not.toContain('hunter2')
  })

  it('that is a boolean is what its variable says, and nothing but true, false, 1 and 0 will do', async () => {
    for (const [text, value] of [
      ['false', 'false'],
      ['0', 'false'],
      ['true', 'true'],
      ['1', 'true'],
    ] as const) {
      const names = ['ALLOW_TERMINATE', 'STACKS', 'WATCH', 'INSECURE', 'REFLECTION']
      const shown = await printed([FUNCTIONS], Object.fromEntries(names.map((name) => [`FARPOOL_${name}`, text])))
      for (const name of names) {
        const option = name.toLowerCase().replace('_', '-')
        expect([name, text, shown[option]]).toEqual([name, text, `${value} # FARPOOL_${name}`])
      }
    }
    for (const name of ['ALLOW_TERMINATE', 'STACKS']) {
      for (const text of ['', 'yes', 'TRUE']) {
        const { code, stderr } = await farpool(['serve', FUNCTIONS], { [`FARPOOL_${name}`]: text })
        const message = `FARPOOL_${name} is ${JSON.stringify(text)}; it must be true, false, 1 or 0`
        expect([code, stderr]).toEqual([2, expect.stringContaining(message)])
      }
    }
    const shown = await printed([FUNCTIONS, '--no-watch'], { FARPOOL_WATCH: 'true' })
    expect(shown['watch']).toBe('false # --no-watch')
    const { code, stderr } = await farpool(['serve', FUNCTIONS], { FARPOOL_EXIT_ON_STDIN_END: 'yes' })
    expect([code, stderr]).toEqual([2, expect.stringContaining('FARPOOL_EXIT_ON_STDIN_END is "yes"')])
  })

  it('that is wrong is named by the place that gave it', async () => {
    const config = file('max-queued: 0\n')
    const cases: [string[], Record<string, string>, string][] = [
      [['--processes', '0'], {}, '--processes is 0; it must be an integer, from 1 to 1024'],
      [['--processes', 'two'], {}, '--processes is "two"; it must be an integer'],
      [['--log-level', 'loud'], {}, '--log-level is "loud"; it must be one of trace, debug'],
      [[], { FARPOOL_PROCESSES: '' }, 'FARPOOL_PROCESSES is ""; it must be an integer'],
      [
        [],
        { FARPOOL_LISTEN: 'nowhere' },
        'FARPOOL_LISTEN is "nowhere"; it must be host:port, [ipv6]:port or unix:/path',
      ],
      [['--config', config], {}, `max-queued in ${config} is 0; it must be an integer, 1 or more`],
      [['--max-message-bytes', '1000', '--max-held-bytes', '3999'], {}, '--max-held-bytes is 3999; it must be'],
    ]
    for (const [args, env, message] of cases) {
      const { code, stderr } = await farpool(['serve', FUNCTIONS, ...args], env)
      expect([args, code, stderr]).toEqual([args, 2, expect.stringContaining(message)])
    }
  })
})

describe('a variable FARPOOL_…', () => {
  it('that no option has is an error that names the nearest', async () => {
    for (const command of [['serve', FUNCTIONS], ['info'], ['call', 'fib']]) {
      const { code, stderr } = await farpool(command, { FARPOOL_MAX_QEUED: '5' })
      expect([code, stderr]).toEqual([2, expect.stringContaining('FARPOOL_MAX_QEUED')])
      expect(stderr).toContain('did you mean FARPOOL_MAX_QUEUED?')
    }
  })

  it('that Kubernetes sets for a service named farpool does no harm', async () => {
    await printed([FUNCTIONS], {
      FARPOOL_SERVICE_HOST: '10.0.0.1',
      FARPOOL_SERVICE_PORT: '50051',
      FARPOOL_SERVICE_PORT_GRPC: '50051',
      FARPOOL_PORT: 'tcp://10.0.0.1:50051',
      FARPOOL_PORT_50051_TCP: 'tcp://10.0.0.1:50051',
      FARPOOL_PORT_50051_TCP_ADDR: '10.0.0.1',
      FARPOOL_PORT_50051_TCP_PORT: '50051',
      FARPOOL_PORT_50051_TCP_PROTO: 'tcp',
      FARPOOL_IMAGES_SERVICE_HOST: '10.0.0.2',
    })
    const { code, stderr } = await farpool(['serve', FUNCTIONS], { FARPOOL_PORT: '8080' })
    expect([code, stderr]).toEqual([2, expect.stringContaining('FARPOOL_PORT, which farpool does not know')])
  })

  it('that only clients read is mentioned in the log of a server', async () => {
    const args = ['serve', FUNCTIONS, '--listen', '127.0.0.1:0', '--initializer', 'nope']
    const { stderr } = await farpool(args, { FARPOOL_TOKEN: 'tokens.yaml', FARPOOL_LOG_FORMAT: 'json' })
    const [first] = stderr.split('\n')
    expect(JSON.parse(first ?? '')).toMatchObject({ level: 40, variables: ['FARPOOL_TOKEN'] })
  })
})

describe('a configuration file', () => {
  it.each([
    ['processes: 2\nmax-qeued: 5\n', 'there is no option max-qeued; did you mean max-queued?'],
    ['processes: two\n', 'processes in FILE is "two"; it must be an integer, from 1 to 1024'],
    ['watch: yes\n', 'watch in FILE is "yes"; it must be true or false'],
    ['processes: 2\nprocesses: 3\n', 'FILE:2:1: Map keys must be unique'],
    ['processes: [\n', 'FILE:'],
    ['- 1\n', 'the content of FILE is [1]; it must be an object of options'],
    ['modules: []\n', 'modules in FILE is []; it must be an array with at least one path'],
    ['modules: ./m.js\n', 'modules in FILE is "./m.js"; it must be an array'],
    ['pools: 3\n', 'pools in FILE is 3; it must be an object of pools by name'],
    ['pools: { images: 3 }\n', 'pools.images in FILE is 3; it must be an object of options'],
    ['pools: { images: {} }\n', 'pools.images.modules in FILE is missing; it must be an array'],
    ['pools: { images: { modules: [M], listen: "a:1" } }\n', 'pools.images: there is no option listen'],
    [
      'pools: { images: { modules: [M], processes: 0 } }\n',
      'pools.images.processes in FILE is 0; it must be an integer',
    ],
    ['pools: { images: { modules: [M] }, images: { modules: [M] } }\n', 'Map keys must be unique'],
    ['pools: { default: { modules: [M] } }\n', 'a name in pools in FILE is "default"; it must be'],
    [
      'pools: { images: { modules: [M], initargs: [1] } }\n',
      'pools.images.initargs in FILE is given without an initializer',
    ],
    [
      'processes: 2\npools: { images: { modules: [M], processes: 1024 } }\n',
      'the number of processes of all shared pools is 1026',
    ],
  ])('%j is refused', async (text, message) => {
    const path = file(text.replaceAll('M]', `${FUNCTIONS}]`))
    const args = text.startsWith('modules') ? [] : [FUNCTIONS]
    const { code, stderr } = await farpool(['serve', ...args, '--config', path])
    expect([code, stderr]).toEqual([2, expect.stringContaining(message.replaceAll('FILE', path))])
  })

  it('that is not there is named', async () => {
    const { code, stderr } = await farpool(['serve', FUNCTIONS, '--config', '/nowhere/farpool.yaml'])
    expect([code, stderr]).toEqual([2, expect.stringContaining('the file /nowhere/farpool.yaml cannot be read')])
  })

  it('starts a server, with modules relative to the file', async () => {
    writeFileSync(folder.path('functions.mjs'), 'export const twice = (n) => 2 * n\n')
    writeFileSync(folder.path('farpool.yaml'), 'modules: [./functions.mjs]\nprocesses: 1\nlog-level: info\n')
    await using server = await ServerProcess.start(['--config', folder.path('farpool.yaml')], [])
    const { stdout } = await farpool(['call', 'twice', '21', '--address', server.address])
    expect(stdout).toBe('42\n')
  })
})

describe('farpool check', () => {
  it('loads the modules of all pools and says what they export', async () => {
    writeFileSync(
      folder.path('one.mjs'),
      'export const one = () => 1\nexport const init = () => { throw new Error("ran") }\n',
    )
    writeFileSync(folder.path('two.mjs'), 'export const two = () => 2\n')
    const config = file('modules: [./one.mjs]\ninitializer: init\npools: { other: { modules: [./two.mjs] } }\n')
    const text = await farpool(['check', '--config', config])
    expect(text).toEqual({
      code: 0,
      stdout: 'pool default: init, one\npool other: two\nthe configuration is valid\n',
      stderr: '',
    })
    const { stdout } = await farpool(['check', '--config', config, '--json'])
    expect(JSON.parse(stdout)).toEqual({ ok: true, pools: { default: ['init', 'one'], other: ['two'] } })
  })

  it('fails where a server would not start', async () => {
    writeFileSync(folder.path('broken.mjs'), 'export const a = \n')
    const broken = await farpool(['check', folder.path('broken.mjs')])
    expect([broken.code, broken.stderr]).toEqual([1, expect.stringContaining('broken.mjs:')])
    const missing = await farpool(['check', FUNCTIONS, '--initializer', 'nope', '--json'])
    expect(missing.code).toBe(1)
    expect(JSON.parse(missing.stdout)).toMatchObject({ ok: false, error: { reason: 'FUNCTION_NOT_FOUND' } })
    const nothing = await farpool(['check'])
    expect([nothing.code, nothing.stderr]).toEqual([2, expect.stringContaining('modules is missing')])
  })
})
