import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { Pool } from 'farpool'
import { describe, expect, it } from 'vitest'
import { CLI, FUNCTIONS, until } from '../support/server.js'

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
})
