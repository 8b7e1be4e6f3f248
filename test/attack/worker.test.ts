import { describe, expect, it } from 'vitest'
import { FromWorker } from '../../proto/gen/farpool/worker/v1/worker.js'
import { sharedFarm } from '../support/farm.js'

/** A worker whose functions write to the socket between worker and server. */

const module = `import { writeSync } from 'node:fs'
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
const farm = sharedFarm({ module })

function framed(kind: NonNullable<FromWorker['kind']>): Uint8Array {
  const message = FromWorker.encode({ kind }).finish()
  const frame = new Uint8Array(4 + message.length)
  new DataView(frame.buffer).setUint32(0, message.length)
  frame.set(message, 4)
  return frame
}

describe('a worker that sends a wrong message', () => {
  it.each<[string, Uint8Array]>([
    [
      'initFailed after ready',
      framed({ $case: 'initFailed', value: { status: { code: 13, message: 'never', details: [] } } }),
    ],
    ['a second ready', framed({ $case: 'ready', value: { functions: [], runtime: '' } })],
    ['bytes that are not a message', new Uint8Array([0, 0, 0, 1, 0xff])],
    ['a frame above the limit', new Uint8Array([0xff, 0xff, 0xff, 0xff])],
  ])('is replaced, and only its task fails: %s', async (_, bytes) => {
    const { pool } = farm
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
    ['the beginning of a large one', done(4_000_000).subarray(0, 100_000)],
    ['most of a large one', done(4_000_000).subarray(0, 3_000_000)],
  ])('fails only that task with WORKER_CRASHED, after %s', async (_, bytes) => {
    const { pool } = farm
    const failed = await pool.apply('sayAndDie', [bytes]).catch((error: unknown) => error)
    expect(failed).toMatchObject({ reason: 'WORKER_CRASHED', started: true, metadata: { signal: 'SIGKILL' } })
    expect(await pool.apply('add', [1, 2])).toBe(3)
  })
})
