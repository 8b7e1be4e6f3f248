import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { Pool } from 'farpool'
import { describe, expect, it } from 'vitest'
import { errorOf } from '../support/calls.js'
import { CLI, FUNCTIONS, farpool, temporaryFolder, until } from '../support/server.js'

/** A server whose log the test reads, or stops reading. */
async function start(module = FUNCTIONS, ...more: string[]) {
  const args = [CLI, 'serve', module, '--processes', '1', '--listen', '127.0.0.1:0', '--exit-on-stdin-end', ...more]
  const child = spawn(process.execPath, args, { stdio: ['pipe', 'ignore', 'pipe'] })
  let text = ''
  child.stderr.setEncoding('utf8').on('data', (more: string) => {
    text += more
  })
  await until(() => text.includes('serving'), 'the server has started')
  return { child, log: child.stderr, text: () => text, address: String(/"address":"([^"]+)"/.exec(text)?.[1]) }
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters that must not be there
const CONTROL = /[\0-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e]/
const EVIL = 'one\x1b[2J\x1b]0;title\x07\r\x7f\x9b31m\x85\u2028{"msg":"forged"}\u202etwo'

describe('a log', () => {
  it('without a reader does not block functions that print', async () => {
    const { child, log, address } = await start()
    const pool = new Pool(address)
    log.destroy()
    for (let i = 0; i < 3; i++)
      expect(await pool.apply('printMuch', [2_000_000], undefined, { timeout: 20_000 })).toBe(2_000_000)
    await pool.terminate()
    child.kill('SIGTERM')
    expect(await once(child, 'exit')).toEqual([0, null])
  })

  it.each(['stopped', 'gone'])('whose reader has %s does not keep the server from exiting', async (how) => {
    const { child, log, address } = await start()
    const pool = new Pool(address)
    log.pause()
    const print = () => pool.apply('printMuch', [500_000], undefined, { timeout: 1_000 })
    await until(() => print().then(Number.isNaN, () => true), 'the log is full: a function that prints is held')
    if (how === 'gone') log.destroy()
    const exit = once(child, 'exit')
    child.kill('SIGTERM')
    child.kill('SIGINT')
    expect(await exit).toEqual([0, null])
    log.destroy()
    await pool.terminate()
  })

  it('is JSON, but text on a terminal, where functions cannot control it', async () => {
    const folder = temporaryFolder()
    const module = folder.path('prints.mjs')
    writeFileSync(module, `console.log('\\x1b[2Jcleared\\r')\nthrow new Error('no')`)
    const args = ['serve', module, '--processes', '1', '--listen', '127.0.0.1:0', '--log-level', 'error']
    const lines = async (...more: string[]) => (await farpool([...args, ...more])).stderr.split('\n')
    expect(JSON.parse((await lines())[0] ?? '')).toMatchObject({ msg: '\x1b[2Jcleared', stream: 'stdout' })
    const command = [process.execPath, CLI, ...args].map((part) => `'${part}'`).join(' ')
    const terminal = spawnSync('script', ['-qec', command, '/dev/null'], { encoding: 'utf8' }).stdout.split(/\r?\n/)
    for (const text of [await lines('--log-format', 'pretty'), terminal]) {
      expect(text[0]).toMatch(/INFO.*: .*\\u001b\[2Jcleared/)
      expect(text[0]).toContain('"stream":"stdout"')
      expect(text.join()).toMatch(/ERROR.*cannot be loaded: Error: no/)
    }
    folder.remove()
  })

  it.each(['json', 'pretty'])('in the format %s has the text of others as nothing but text', async (format) => {
    const folder = temporaryFolder()
    const module = folder.path('evil.mjs')
    writeFileSync(
      module,
      `export const print = (text) => { console.log(text); console.error(text) }
       const die = (text) => { setImmediate(() => { throw new Error(text) }); return new Promise(() => {}) }
       export { die as 'die\\u001b[31m\\u2028' }`,
    )
    const name = 'die\x1b[31m\u2028'
    const { child, text, address } = await start(module, '--log-format', format)
    const pool = new Pool(address)
    await pool.apply('print', [EVIL])
    expect(await errorOf(pool.apply(name, [EVIL]))).toMatchObject({ reason: 'WORKER_CRASHED' })
    expect(await errorOf(pool.apply(EVIL))).toMatchObject({ reason: 'FUNCTION_NOT_FOUND' })
    await pool.terminate()
    child.stdin.end()
    await once(child, 'close')
    expect(text()).not.toMatch(CONTROL)
    expect(text()).toContain(String.raw`one\u001b[2J`)
    expect(text()).toContain(String.raw`die\u001b[31m`)
    if (format === 'json') {
      const lines = text()
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line))
      expect(lines).toContainEqual(expect.objectContaining({ msg: EVIL, stream: 'stdout' }))
      expect(lines).toContainEqual(expect.objectContaining({ function: name, cause: expect.stringContaining(EVIL) }))
    }
    folder.remove()
  })

  it('for people has no line that begins within a message', async () => {
    const folder = temporaryFolder()
    const forged = '[12:00:00.000] INFO: all is well'
    writeFileSync(folder.path('throws.mjs'), `throw new Error(${JSON.stringify(`no\n${forged}`)})`)
    const args = [
      'serve',
      folder.path('throws.mjs'),
      '--log-format',
      'pretty',
      '--processes',
      '1',
      '--listen',
      '127.0.0.1:0',
    ]
    const { stderr } = await farpool(args)
    const log = stderr.slice(0, stderr.indexOf('\nfarpool: '))
    expect(log).toContain(forged)
    expect(log.split('\n').filter((line) => line.startsWith(forged))).toEqual([])
    folder.remove()
  })
})

describe('why a server does not start', () => {
  const last = async (args: string[], env = {}) => {
    const { code, stdout, stderr } = await farpool(['serve', ...args], '', env)
    expect([stdout, stderr.endsWith('\n')]).toEqual(['', true])
    return { code, line: stderr.split('\n').at(-2) ?? '' }
  }

  it('is one JSON object, as the other lines, where the log is JSON', async () => {
    const folder = temporaryFolder()
    writeFileSync(folder.path('throws.mjs'), `throw new Error(${JSON.stringify(EVIL)})`)
    for (const [args, code, reason, msg] of [
      [['--log-format', 'json', FUNCTIONS, '--processes', '0'], 2, 'BAD_REQUEST', /--processes/],
      [['--log-format=json', FUNCTIONS, '--no-such'], 2, 'BAD_REQUEST', /unknown option '--no-such'/],
      [[FUNCTIONS, '--listen', 'nowhere'], 2, 'BAD_REQUEST', /listen is "nowhere"/],
      [[FUNCTIONS, '--listen', EVIL], 2, 'BAD_REQUEST', /title/],
      [['--log-level', 'silent', './nowhere.js'], 1, 'MODULE_LOAD_FAILED', /there is no module/],
      [['file://host/m.js'], 2, 'BAD_REQUEST', /file:\/\/host\/m\.js/],
      [[folder.path('throws.mjs'), '--listen', '127.0.0.1:0'], 1, 'MODULE_LOAD_FAILED', /throws\.mjs cannot be loaded/],
      [[], 2, 'BAD_REQUEST', /modules is missing; it must be an array/],
    ] as const) {
      const end = await last([...args])
      expect([args, end.code]).toEqual([args, code])
      expect(end.line).not.toMatch(CONTROL)
      expect(JSON.parse(end.line)).toMatchObject({
        level: 60,
        time: expect.stringMatching(/^\d{4}-/),
        pid: expect.any(Number),
        reason,
        msg: expect.stringMatching(msg),
      })
    }
    folder.remove()
  })

  it('is text where the log is text', async () => {
    for (const args of [
      ['--log-format', 'pretty', FUNCTIONS, '--no-such'],
      ['./nowhere.js', '--log-format=pretty'],
    ])
      expect((await last(args)).line).toMatch(/^(error|farpool): /)
    expect((await last(['./nowhere.js'], { FARPOOL_LOG_FORMAT: 'pretty' })).line).toMatch(
      /^farpool: there is no module/,
    )
  })
})
