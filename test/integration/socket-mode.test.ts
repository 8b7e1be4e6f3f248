import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { statSync } from 'node:fs'
import { afterAll, describe, expect, it } from 'vitest'
import { resolveConfig } from '../../server/resolve-config.js'
import { FUNCTIONS, ServerProcess, temporaryFolder } from '../support/server.js'

/** The permissions of the file of a Unix socket. */

const folder = temporaryFolder()
afterAll(() => folder.remove())

const ANY_UMASK = (umask: string) => ['/bin/sh', '-c', `umask ${umask}; exec "$@"`, 'sh']

/** Looks at a file without a pause from before it exists, in a process of its own. Its output is each mode that the file had. */
const WATCH = `
  const { statSync } = require('node:fs')
  const modes = new Set()
  let isThere = true
  process.stdin.resume().once('end', () => { isThere = false })
  console.log('watching')
  const look = () => {
    const end = performance.now() + 5
    while (performance.now() < end) {
      const file = statSync(process.argv[1], { throwIfNoEntry: false })
      if (file) modes.add((file.mode & 0o777).toString(8))
    }
    if (isThere) setImmediate(look)
    else console.log([...modes].join(' '))
  }
  look()`

describe('a Unix socket', () => {
  it.each([
    ['000', [], '600'],
    ['077', ['--socket-mode', '0660'], '660'],
  ])('is never more open than its mode: umask %s, %j', async (umask, args, mode) => {
    const path = folder.fresh()
    const watcher = spawn(process.execPath, ['-e', WATCH, path], { stdio: ['pipe', 'pipe', 'inherit'] })
    let seen = ''
    watcher.stdout.setEncoding('utf8').on('data', (text) => {
      seen += text
    })
    await once(watcher.stdout, 'data')
    await using _server = await ServerProcess.start(
      ['--processes', '1', '--listen', `unix:${path}`, ...args],
      [FUNCTIONS],
      ANY_UMASK(umask),
    )
    expect((statSync(path).mode & 0o777).toString(8)).toBe(mode)
    watcher.stdin.end()
    await once(watcher, 'close')
    expect(seen.split('\n')).toEqual(['watching', mode, ''])
  })

  it.each(['9', '0x180', 'rw', '1777', '6000'])('cannot have the mode %j', (socketMode) => {
    expect(() => resolveConfig({ modules: [FUNCTIONS], socketMode })).toThrow(
      `socket-mode is ${JSON.stringify(socketMode)}; it must be the permissions of a file in octal digits`,
    )
  })
})
