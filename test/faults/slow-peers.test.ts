import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { type FarpoolError, Pool } from 'farpool'
import { describe, expect, it } from 'vitest'
import { startFarm } from '../support/farm.js'
import { connectRaw, frame, message } from '../support/raw-call.js'
import { until } from '../support/server.js'

/** Clients that stop reading, and a server that never answers. */

const isIdle = ({ queued, running }: { queued: number; running: number }) => queued === 0 && running === 0

/** The most memory that a process has had, in bytes. */
const peakOf = (pid: number) =>
  Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024

describe('a client that stops reading', () => {
  const CALLS = 6_144
  const BYTES = 64 * 1024
  const SUM = CALLS * BYTES

  it.runIf(process.platform === 'linux')(
    'cannot fill the memory of the server, and gets each outcome once when it reads on',
    async () => {
      await using farm = await startFarm({ args: ['--processes', '2'] })
      const { server: slow, pool: watcher } = farm
      using connection = connectRaw(slow.address)
      const peak = () => peakOf(slow.pid)
      await watcher.map('identity', [1, 2])
      const before = peak()
      const { submitted } = (await watcher.info()).tasks
      const call = connection.call()
      call.pause()
      const text = 'x'.repeat(BYTES)
      const send = async () => {
        for (let id = 1; id <= CALLS; id++) {
          call.write(frame(message('identity', { [id]: [text] })))
          await call.drained()
        }
        call.end()
      }
      const sent = send()
      let accepted = 0
      let unchanged = 0
      // No event tells that a sender is stuck: the server is idle, and no new call has come a hundred times in a row.
      await until(async () => {
        const info = await watcher.info()
        const now = info.tasks.submitted - submitted
        unchanged = isIdle(info) && now > 0 && now === accepted ? unchanged + 1 : 0
        accepted = now
        return unchanged === 100
      }, 'it has done all that it has read, and reads no more')
      expect(accepted).toBeLessThan(CALLS)
      expect(await watcher.apply('add', [1, 2])).toBe(3)
      call.resume()
      await sent
      expect(await call.ended).toEqual({ status: '0', message: 'OK' })
      expect(call.outcomes.map(({ id }) => id).sort((a, b) => a - b)).toEqual(
        Array.from({ length: CALLS }, (_, i) => i + 1),
      )
      expect(call.outcomes.every(({ payload }) => payload?.kind?.value === JSON.stringify(text))).toBe(true)
      expect(peak() - before).toBeLessThan(SUM)
    },
  )
})

describe('a client that stops reading large results of small calls', () => {
  const CALLS = 8_192
  const BYTES = 64 * 1024

  it.runIf(process.platform === 'linux')(
    'delays its own tasks, and gets each outcome once when it reads on',
    async () => {
      await using farm = await startFarm({ args: ['--processes', '2'] })
      const { server: slow, pool: watcher } = farm
      using connection = connectRaw(slow.address)
      const peak = () => peakOf(slow.pid)
      await watcher.map('identity', [1, 2])
      const before = peak()
      const call = connection.call()
      call.pause()
      call.write(
        frame(message('textOf', Object.fromEntries(Array.from({ length: CALLS }, (_, i) => [i + 1, [BYTES]])))),
      )
      call.end()
      let queued = 0
      let unchanged = 0
      await until(async () => {
        const info = await watcher.info()
        unchanged = info.running === 0 && info.queued > 0 && info.queued === queued ? unchanged + 1 : 0
        queued = info.queued
        return unchanged === 100
      }, 'what is left waits for its reader')
      expect(await watcher.apply('add', [1, 2])).toBe(3)
      expect(peak() - before).toBeLessThan(0.75 * CALLS * BYTES)
      call.resume()
      expect(await call.ended).toEqual({ status: '0', message: 'OK' })
      expect(call.outcomes.map(({ id }) => id).sort((a, b) => a - b)).toEqual(
        Array.from({ length: CALLS }, (_, i) => i + 1),
      )
    },
  )
})

describe('a server that accepts connections and never answers', () => {
  it('fails calls of each kind as not started, also without a timeout', async () => {
    const mute = createServer((socket) => socket.on('error', () => {}).resume())
    await once(mute.listen(0, '127.0.0.1'), 'listening')
    const address = `127.0.0.1:${(mute.address() as AddressInfo).port}`
    const pools = [{}, { transport: 'unary' as const }, { processes: 1 }].map((options) => new Pool(address, options))
    const calls = pools.flatMap((pool) => [pool.apply('add', [1, 2]), pool.map('square', [1, 2])])
    const errors = await Promise.all(calls.map((call) => call.catch((error: FarpoolError) => error)))
    expect(errors).toMatchObject(Array(6).fill({ reason: 'CONNECTION_FAILED', started: false }))
    await Promise.all(pools.map((pool) => pool.terminate()))
    mute.close()
  })
})
