import { writeFileSync } from 'node:fs'
import { Pool } from 'farpool'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { FromWorker } from '../../proto/gen/farpool/worker/v1/worker.js'
import { ServerProcess, temporaryFolder } from '../support/server.js'

/** A worker whose functions write to the socket in which it talks to its server. */

const folder = temporaryFolder()
let server: ServerProcess
beforeAll(async () => {
  const module = folder.path('say.mjs')
  const code = `import { writeSync } from 'node:fs'
    export const say = (bytes) => void writeSync(4, bytes)
    export const sayAndDie = (bytes) => {
      for (let at = 0; at < bytes.length; ) {
        try {
          at += writeSync(4, bytes, at)
        } catch (error) {
          if (error.code !== 'EAGAIN') throw error
        }
      }
      process.kill(process.pid, 'SIGKILL')
    }
    export const add = (a, b) => a + b`
  writeFileSync(module, code)
  server = await ServerProcess.start(['--processes', '1'], [module])
})
afterAll(async () => {
  await server[Symbol.asyncDispose]()
  folder.remove()
})

function framed(kind: NonNullable<FromWorker['kind']>): Uint8Array {
  const message = FromWorker.encode({ kind }).finish()
  const frame = new Uint8Array(4 + message.length)
  new DataView(frame.buffer).setUint32(0, message.length)
  frame.set(message, 4)
  return frame
}

describe('a worker that says what it must not', () => {
  it.each<[string, Uint8Array]>([
    [
      'that it cannot start, after it was ready',
      framed({ $case: 'initFailed', value: { status: { code: 13, message: 'never', details: [] } } }),
    ],
    ['that it is ready, again', framed({ $case: 'ready', value: { functions: [], runtime: '' } })],
    ['what is no message', new Uint8Array([0, 0, 0, 1, 0xff])],
    ['that a frame comes of more than there may be', new Uint8Array([0xff, 0xff, 0xff, 0xff])],
  ])('%s, is replaced: its task fails, and the next does not', async (_, bytes) => {
    await using pool = new Pool(server.address)
    const failed = await pool.apply('say', [bytes]).catch((error: unknown) => error)
    expect(failed).toMatchObject({ reason: 'WORKER_CRASHED' })
    expect(await pool.apply('add', [1, 2])).toBe(3)
    expect(await pool.info()).toMatchObject({ state: 'open', workers: [{}] })
  })
})

describe('a worker that dies while it writes a result', () => {
  const done = (bytes: number) =>
    framed({
      $case: 'done',
      value: { task: 1, payload: new Uint8Array(bytes), failures: [], status: undefined, runMs: 1 },
    })
  it.each<[string, Uint8Array]>([
    ['two bytes of its length', done(10).subarray(0, 2)],
    ['all but a byte of a small one', done(10).subarray(0, -1)],
    ['a part of a large one that is too small to be joined', done(4_000_000).subarray(0, 100_000)],
    ['most of a large one', done(4_000_000).subarray(0, 3_000_000)],
  ])('%s: its task has crashed, and the next is not touched', async (_, bytes) => {
    await using pool = new Pool(server.address)
    const failed = await pool.apply('sayAndDie', [bytes]).catch((error: unknown) => error)
    expect(failed).toMatchObject({ reason: 'WORKER_CRASHED', started: true, metadata: { signal: 'SIGKILL' } })
    expect(await pool.apply('add', [1, 2])).toBe(3)
  })
})
