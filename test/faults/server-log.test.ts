import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { Pool } from 'farpool'
import { describe, expect, it } from 'vitest'
import { CLI, FUNCTIONS, farpool, temporaryFolder, until } from '../support/server.js'

/** A server whose log the test reads, or stops reading. */
async function start() {
  const args = [CLI, 'serve', FUNCTIONS, '--processes', '1', '--listen', '127.0.0.1:0', '--exit-on-stdin-end']
  const child = spawn(process.execPath, args, { stdio: ['pipe', 'ignore', 'pipe'] })
  let text = ''
  child.stderr.setEncoding('utf8').on('data', (more: string) => {
    text += more
  })
  await until(() => text.includes('"msg":"serving"'), 'the server has started')
  return { child, log: child.stderr, address: String(/"address":"([^"]+)"/.exec(text)?.[1]) }
}

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
    const args = ['serve', module, '--processes', '1', '--listen', '127.0.0.1:0']
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
})
