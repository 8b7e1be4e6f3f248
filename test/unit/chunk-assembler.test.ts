import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ChunkAssembler } from '../../wire/framing/chunk-assembler.js'
import { FrameReader } from '../../wire/framing/frames.js'

const MIB = 1024 * 1024

/** Bytes in which no two neighbours are equal. */
const bytesOf = (length: number): Buffer => Buffer.from(Uint8Array.from({ length }, (_, at) => at % 251))

/** Splits bytes into pieces of the given lengths, which are used again and again. */
function* split(bytes: Buffer, lengths: readonly number[]): Generator<Buffer> {
  let at = 0
  for (let i = 0; at < bytes.length; i++) {
    const piece = bytes.subarray(at, at + (lengths[i % lengths.length] ?? 1))
    yield piece
    at += piece.length
  }
}

const lengths = fc.array(fc.integer({ min: 1, max: 300_000 }), { minLength: 1, maxLength: 20 })

describe('ChunkAssembler', () => {
  it('joins the pieces in order, even if the expected length is wrong', () => {
    const content = bytesOf(3 * MIB)
    const expected = fc.constantFrom(0, 10, MIB, 3 * MIB - 1, 3 * MIB, 3 * MIB + 1, 100 * MIB)
    fc.assert(
      fc.property(expected, lengths, (total, each) => {
        const assembler = new ChunkAssembler(total)
        for (const piece of split(content, each)) assembler.add(piece)
        expect(assembler.length).toBe(content.length)
        expect(assembler.take().equals(content)).toBe(true)
      }),
      { numRuns: 50 },
    )
  })

  it('lets FrameReader read small and large frames, complete and in order', () => {
    const sizes = [0, 1, 100, MIB - 4, MIB, 3 * MIB, 5]
    const sent = sizes.map(bytesOf)
    const stream = Buffer.concat(
      sent.flatMap((frame) => {
        const header = Buffer.alloc(4)
        header.writeUInt32BE(frame.length)
        return [header, frame]
      }),
    )
    fc.assert(
      fc.property(lengths, (each) => {
        const frames: Uint8Array[] = []
        const reader = new FrameReader((frame) => frames.push(frame))
        for (const piece of split(stream, each)) reader.push(piece)
        expect(frames.map(({ length }) => length)).toEqual(sizes)
        for (const [at, frame] of frames.entries()) expect(sent[at]?.equals(frame)).toBe(true)
      }),
      { numRuns: 50 },
    )
  })
})
