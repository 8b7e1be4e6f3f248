import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Channel } from '../../server/calls/channel.js'
import { defaultChunksize } from '../../wire/chunks.js'
import {
  decodeFromWorker,
  decodeToWorker,
  FrameReader,
  writeFromWorker,
  writeToWorker,
} from '../../wire/framing/frames.js'
import { ProtoWriter } from '../../wire/framing/protobuf.js'
import { percentEncodedLength, truncateUtf8 } from '../../wire/truncate.js'

describe('a frame', () => {
  it('is read however the stream is split into pieces', () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat(100_000), { minLength: 1, maxLength: 8 }),
        fc.array(fc.integer({ min: 1, max: 5_000 })),
        (tasks, cuts) => {
          const writer = new ProtoWriter()
          for (const task of tasks) {
            writeToWorker(writer, { $case: 'abort', value: { task, reason: 'r'.repeat(task % 300) } })
          }
          const stream = writer.take()
          const seen: unknown[] = []
          const reader = new FrameReader((frame) => seen.push(decodeToWorker(frame)))
          let at = 0
          for (const cut of cuts) {
            reader.push(stream.subarray(at, at + cut))
            at += cut
          }
          reader.push(stream.subarray(at))
          expect(seen).toEqual(
            tasks.map((task) => ({ $case: 'abort', value: { task, reason: 'r'.repeat(task % 300) } })),
          )
        },
      ),
    )
  })

  it('that announces more than the limit is refused', () => {
    const reader = new FrameReader(() => {})
    expect(() => reader.push(Buffer.from('ffffffff', 'hex'))).toThrow('is announced')
  })

  it('of an unknown kind is undefined', () => {
    expect(decodeFromWorker(Buffer.from([0x7a, 0]))).toBeUndefined()
    const writer = new ProtoWriter()
    writeFromWorker(writer, { $case: 'started', value: { task: 2 ** 40 } })
    expect(decodeFromWorker(writer.take().subarray(4))).toEqual({ $case: 'started', value: { task: 2 ** 40 } })
  })
})

describe('the default chunk size', () => {
  it.each([
    [0, 2, 1],
    [1, 2, 1],
    [8, 2, 1],
    [9, 2, 2],
    [17, 2, 3],
    [1_000_000, 4, 62_500],
  ])('of %i items on %i processes is %i', (items, processes, size) => {
    expect(defaultChunksize(items, processes)).toBe(size)
  })
})

describe('truncateUtf8', () => {
  it('returns well-formed text of at most the given number of bytes', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.nat(100), (text, bytes) => {
        const truncated = truncateUtf8(text, bytes)
        expect(Buffer.byteLength(truncated)).toBeLessThanOrEqual(bytes)
        expect(Buffer.from(truncated).toString()).toBe(truncated)
        if (Buffer.byteLength(text) <= bytes) expect(truncated).toBe(Buffer.from(text).toString())
      }),
    )
  })

  it('has a companion that counts the bytes after percent-encoding', () => {
    expect([percentEncodedLength('abc'), percentEncodedLength('%é\n')]).toEqual([3, 12])
  })
})

describe('a channel', () => {
  it('yields the pushed values in order and then ends', async () => {
    const channel = new Channel<number>()
    channel.push(1)
    setImmediate(() => {
      channel.push(2)
      channel.push(3)
      channel.end()
      channel.push(4)
    })
    const seen: number[] = []
    for await (const value of channel) seen.push(value)
    expect(seen).toEqual([1, 2, 3])
    expect(await channel.take()).toEqual([])
  })

  it('yields the remaining values before the error that ended it', async () => {
    const channel = new Channel<number>()
    channel.push(1)
    channel.end(new Error('over'))
    expect(await channel.take()).toEqual([1])
    await expect(channel.take()).rejects.toThrow('over')
  })
})
