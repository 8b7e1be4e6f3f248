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

/** Some are so large that they become pieces of their own. */
const values = fc.array(
  fc.oneof(
    fc.uint8Array({ maxLength: 50 }),
    fc.integer({ min: 30_000, max: 70_000 }).map((length) => new Uint8Array(length).fill(length % 251)),
  ),
  { maxLength: 6 },
)

describe('a message in pieces', () => {
  const writerOf = (fields: readonly Uint8Array[]) => {
    const writer = new ProtoWriter(8)
    for (const field of fields) writer.bytes(0x0a, field)
    return writer
  }

  it('has the bytes of the same message in one piece', () => {
    fc.assert(
      fc.property(values, (fields) => {
        const whole = writerOf(fields).take()
        const pieces = writerOf(fields).takePieces()
        expect(pieces.length).toBe(whole.length)
        expect(pieces.joined().equals(whole)).toBe(true)
      }),
    )
  })

  it('continues behind any byte', () => {
    fc.assert(
      fc.property(values, fc.double({ min: 0, max: 1, noNaN: true }), (fields, part) => {
        const whole = writerOf(fields).take()
        const at = Math.round(part * whole.length)
        const rest = writerOf(fields).takePieces().after(at)
        expect(rest.length).toBe(whole.length - at)
        expect(rest.joined().equals(whole.subarray(at))).toBe(true)
      }),
    )
  })

  it('shares large values and copies small ones', () => {
    const [small, large] = [new Uint8Array(100), new Uint8Array(100_000)]
    const { pieces } = writerOf([small, large]).takePieces()
    expect(pieces.map(({ length }) => length)).toEqual([106, 100_000])
    expect(pieces[1]).toBe(large)
  })
})

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
