import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { sharedFarm } from '../support/farm.js'
import { connectRaw, frame, message, type RawCall, type RawConnection } from '../support/raw-call.js'
import { temporaryFolder, until } from '../support/server.js'

/** A stream of calls whose client sends broken messages or a wrong order, or whose connection breaks. No gRPC library does so. */

const INVALID_ARGUMENT = '3'
const RESOURCE_EXHAUSTED = '8'
const MAX_MESSAGE_BYTES = 100_000
const PROCESSES = 3

const limit = ['--max-message-bytes', String(MAX_MESSAGE_BYTES)]
const farm = sharedFarm({ args: ['--processes', String(PROCESSES), '--grace', '200', ...limit] })
let folder: ReturnType<typeof temporaryFolder>
let connection: RawConnection
beforeEach(() => {
  folder = temporaryFolder()
  connection = connectRaw(farm.address)
})
afterEach(async () => {
  connection[Symbol.dispose]()
  await holding(0)
  folder.remove()
})

/** Resolves when this number of calls runs and none waits. */
const holding = (running: number) =>
  until(async () => {
    const now = await farm.pool.info()
    return now.queued === 0 && now.running === running
  }, `none waits and ${running} run`)
const outcome = (call: RawCall, count = 1) => until(() => call.outcomes.length === count, `${count} outcomes have come`)
const json = (value: unknown) => ({ kind: { $case: 'json', value: JSON.stringify(value) } })

/** A call on another stream of the same connection, and one on another connection; both run until `finish`. */
async function neighbours() {
  const [begun, go] = [folder.path('begun'), folder.path('go')]
  const same = connection.call()
  same.write(frame(message('waitFor', { 1: [begun, go, 'same'] })))
  const other = farm.pool.applyAsync('waitFor', [begun, go, 'other'])
  await until(() => existsSync(begun) && readFileSync(begun, 'utf8').split('\n').length === 3, 'both run')
  return async () => {
    writeFileSync(go, '')
    same.end()
    expect(await same.ended).toEqual({ status: '0', message: 'OK' })
    expect(same.outcomes).toMatchObject([{ id: 1, payload: json('same'), failures: [] }])
    expect(await other).toBe('other')
  }
}

describe('a broken message ends its stream, drops the calls of that stream, and changes no other stream', () => {
  const whole = message('add', { 10: [1, 2], 11: [3, 4] })
  const noMessage = /is not a farpool\.v1\.CallRequest/

  describe.each([
    ['a message without its second half', frame(whole.subarray(0, whole.length / 2)), INVALID_ARGUMENT, noMessage],
    ['a message without its last byte', frame(whole.subarray(0, -1)), INVALID_ARGUMENT, noMessage],
    ['a line of HTTP/1.1', frame(Buffer.from('GET / HTTP/1.1\r\n\r\n')), INVALID_ARGUMENT, noMessage],
    ['bytes that are not protobuf', frame(Buffer.alloc(64, 0xff)), INVALID_ARGUMENT, noMessage],
    [
      'a message with an id above 2^53',
      frame(Buffer.from([0x12, 9, ...Array(8).fill(0xff), 0x7f])),
      INVALID_ARGUMENT,
      noMessage,
    ],
    [
      'a message above --max-message-bytes',
      frame(message('add', { 10: ['x'.repeat(MAX_MESSAGE_BYTES)] })),
      RESOURCE_EXHAUSTED,
      /a message may take 100000/,
    ],
    ['a message that announces 4 GiB', frame(Buffer.alloc(1), 2 ** 32 - 1), RESOURCE_EXHAUSTED, /larger than max/],
  ])('%s', (_, bad, status, text) => {
    it.each([
      ['as the first message', false],
      ['after a call of the stream has its outcome', true],
    ])('%s', async (_, answered) => {
      const finish = await neighbours()
      const call = connection.call()
      if (answered) {
        call.write(frame(message('add', { 1: [1, 2] })))
        await outcome(call)
      }
      call.write(frame(message('never', { 2: [], 3: [], 4: [] })))
      await until(async () => (await farm.pool.info()).queued === 2, 'its calls have come')
      // The server cannot know where the next message begins, so it runs nothing that follows.
      call.write(bad, frame(message('never', { 20: [], 21: [] })), frame(message('never', { 22: [] })))
      call.end()
      const end = await call.ended
      expect(end).toEqual({ status, message: expect.stringMatching(text) })
      expect(call.outcomes.map(({ id }) => id)).toEqual(answered ? [1] : [])
      await holding(2)
      await finish()
    })
  })
})

describe('a stream that ends in the middle of a message', () => {
  const part = frame(Buffer.from([0x0a, 0x7f]), 50_000)

  it('has the outcomes of the whole messages, if the client closed it', async () => {
    const call = connection.call()
    call.write(frame(message('add', { 1: [1, 2] })), part)
    call.end()
    await call.ended
    expect(call.outcomes).toMatchObject([{ id: 1, payload: json(3) }])
  })

  it.each([
    ['reset', (call: RawCall) => call.reset()],
    ['cut with its connection', () => connection.socket.resetAndDestroy()],
  ])('loses its calls and no others, if it was %s', async (_, cut) => {
    const running = farm.pool.applyAsync('waitFor', [folder.path('begun'), folder.path('go'), 'other'])
    const call = connection.call()
    call.write(frame(message('never', { 1: [], 2: [], 3: [] })), part)
    await until(async () => (await farm.pool.info()).running === PROCESSES, 'its calls are there')
    cut(call)
    expect((await call.ended).status).toBeUndefined()
    await holding(1)
    writeFileSync(folder.path('go'), '')
    expect(await running).toBe('other')
  })
})

describe('a stream of calls', () => {
  const talk = async (...frames: Buffer[]) => {
    const call = connection.call()
    call.write(...frames)
    call.end()
    const { status } = await call.ended
    return { status, ids: call.outcomes.map(({ id }) => id) }
  }

  it('ignores a cancellation that comes before its call, or names an unknown id', async () => {
    const cancelled = frame(message('', {}, [1, 2, 7, Number.MAX_SAFE_INTEGER]))
    expect(await talk(cancelled, frame(message('add', { 1: [1] })), frame(message('add', { 2: [2] })))).toEqual({
      status: '0',
      ids: [1, 2],
    })
  })

  it('sends no outcome for a call that is cancelled in its own message, or twice', async () => {
    expect(await talk(frame(message('never', { 1: [] }, [1, 1])), frame(message('add', { 2: [1] }, [1])))).toEqual({
      status: '0',
      ids: [2],
    })
  })

  it('ignores the cancellation of a call that has ended', async () => {
    const call = connection.call()
    call.write(frame(message('add', { 1: [1, 2] })))
    await outcome(call)
    call.write(frame(message('', {}, [1])), frame(message('add', { 2: [2, 2] }, [1])))
    call.end()
    expect((await call.ended).status).toBe('0')
    expect(call.outcomes).toMatchObject([
      { id: 1, payload: json(3), failures: [] },
      { id: 2, payload: json(4), failures: [] },
    ])
  })

  it.each([
    ['ended', 'add'],
    ['been cancelled', 'never'],
  ])('refuses the id of a call that has %s', async (_, name) => {
    const call = connection.call()
    call.write(frame(message('add', { 4: [1, 2] })))
    await outcome(call)
    call.write(frame(message(name, { 5: [] }, name === 'never' ? [5] : [])))
    if (name === 'add') await outcome(call, 2)
    call.write(frame(message('never', { 5: [], 6: [] })))
    expect(await call.ended).toEqual({
      status: INVALID_ARGUMENT,
      message: expect.stringContaining('it must be larger than 5'),
    })
  })
})

describe('a connection that breaks', () => {
  const descriptors = () => (process.platform === 'linux' ? readdirSync(`/proc/${farm.server.pid}/fd`).length : 0)

  it('with 1,000 waiting calls leaves nothing in the server, and none of them runs', async () => {
    const staying = connection.call()
    staying.write(frame(message('add', { 1: [1, 2] })))
    await outcome(staying)
    const before = (await farm.pool.info()).tasks.submitted
    const open = descriptors()
    using cut = connectRaw(farm.address)
    const call = cut.call()
    const busy = Array.from({ length: PROCESSES }, (_, i) => [i + 1, [folder.path('begun'), folder.path('never'), 1]])
    const waiting = Array.from({ length: 1_000 }, (_, i) => [PROCESSES + i + 1, [folder.path('ran'), 'x']])
    call.write(frame(message('waitFor', Object.fromEntries(busy))))
    call.write(frame(message('appendLine', Object.fromEntries(waiting))))
    await until(async () => (await farm.pool.info()).queued === 1_000, 'all have come')
    cut.socket.resetAndDestroy()
    expect((await call.ended).status).toBeUndefined()
    await holding(0)
    expect(await farm.pool.map('add', [1, 2, 3], { chunksize: 1 })).toEqual([1, 2, 3])
    expect(existsSync(folder.path('ran'))).toBe(false)
    expect((await farm.pool.info()).tasks.submitted).toBe(before + PROCESSES + 1_000 + 3)
    await until(() => descriptors() <= open, 'its descriptors are closed')
    staying.write(frame(message('add', { 2: [2, 2] })))
    await outcome(staying, 2)
    expect(staying.outcomes[1]).toMatchObject({ id: 2, payload: json(4), failures: [] })
  })
})
