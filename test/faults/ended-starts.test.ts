import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { afterAll, describe, expect, it } from 'vitest'
import { leftAfter, MARK } from '../chaos/processes.js'
import { CLI, FUNCTIONS, temporaryFolder, until } from '../support/server.js'

/** Programs that are told to end while their workers start. The initializers of these workers never return. */

const folder = temporaryFolder()
afterAll(() => folder.remove())

const CLIENT = new URL('../../dist/client/index.js', import.meta.url).href
const LOCAL = `
  const { Pool } = await import(${JSON.stringify(CLIENT)})
  const options = { processes: 2, initializer: 'hangWhileInitializing', initargs: [process.argv[1]] }
  await Pool.local(${JSON.stringify(FUNCTIONS)}, options)`

/** Starts a program whose workers append to a file while they start. Resolves when one of them has. */
async function starting(args: (file: string) => string[]) {
  const file = folder.fresh()
  const mark = `${MARK}=${file}`
  const child = spawn(process.execPath, args(file), {
    env: { ...process.env, FARPOOL_WORKER_ENV: '*', [MARK]: file },
    stdio: ['pipe', 'ignore', 'pipe'],
  })
  let said = ''
  child.stderr.setEncoding('utf8').on('data', (text) => {
    said += text
  })
  await until(() => existsSync(file), 'a worker is starting')
  return { child, ended: once(child, 'close'), said: () => said, mark }
}

/** Files of the process, whatever they are called, and sockets. */
const filesOf = (pid = 0) =>
  [tmpdir(), '/dev/shm'].flatMap((path) =>
    existsSync(path)
      ? readdirSync(path).filter((name) => name.startsWith('farpool-') && name.includes(String(pid)))
      : [],
  )

describe('farpool serve, told to end while its workers start', () => {
  it.each(['SIGTERM', 'SIGINT'] as const)('by %s, says so and leaves nothing behind', async (signal) => {
    const socket = folder.fresh()
    const hanging = (file: string) => ['--initializer', 'hangWhileInitializing', '--initargs', JSON.stringify([file])]
    const { child, ended, said, mark } = await starting((file) => [
      ...[CLI, 'serve', FUNCTIONS, '--processes', '2', '--listen', `unix:${socket}`, '--exit-on-stdin-end'],
      ...['--log-format', 'pretty'],
      ...hanging(file),
    ])
    child.kill(signal)
    expect(await ended).toEqual([1, null])
    expect(said()).toContain(`the server was ended while it started: it got ${signal} (CANCELLED)`)
    expect(await leftAfter(mark, 5_000)).toEqual([])
    expect([existsSync(socket), filesOf(child.pid)]).toEqual([false, []])
  })
})

describe('a program with a local pool, told to end while the pool starts', () => {
  it.each(['SIGTERM', 'SIGINT', 'SIGKILL'] as const)('by %s, leaves nothing behind', async (signal) => {
    const { child, ended, mark } = await starting((file) => ['--input-type=module', '--eval', LOCAL, file])
    child.kill(signal)
    expect(await ended).toEqual([null, signal])
    expect(await leftAfter(mark, 5_000)).toEqual([])
    expect(filesOf(child.pid)).toEqual([])
  })
})
