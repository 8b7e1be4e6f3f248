import type { Random } from '../chaos/random.js'

/** Mutations of bytes, whatever they mean. */

/** Values at the limits of lengths, indices and counters. */
const NUMBERS = [0, 1, 2, 127, 128, 255, 256, 16_383, 16_384, 32_767, 65_535, 65_536, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1]

export const LARGE_NUMBERS: readonly [bigint, ...bigint[]] = [
  0n,
  ...[1n, 2n, 7n, 127n, 128n, 1_000n, 65_536n],
  ...[31n, 32n, 53n, 63n].flatMap((bits) => [2n ** bits - 1n, 2n ** bits, 2n ** bits + 1n]),
  2n ** 64n - 1n,
]

type Change = (bytes: Buffer, random: Random) => Buffer

const CHANGES: readonly [Change, ...Change[]] = [flip, flip, overwrite, insert, remove, cut, repeat, number, swap]

/** Applies at least one change, rarely many. */
export function mutateBytes(bytes: Uint8Array, random: Random): Buffer {
  let mutated: Buffer = Buffer.from(bytes)
  do mutated = random.pick(CHANGES)(mutated, random)
  while (random.chance(0.4))
  return mutated
}

export function randomBytes(random: Random, length: number): Buffer {
  return Buffer.from(Array.from({ length }, () => random.between(0, 255)))
}

const place = (bytes: Buffer, random: Random): number => random.between(0, Math.max(0, bytes.length - 1))

const splice = (bytes: Buffer, at: number, removed: number, put: Uint8Array): Buffer =>
  Buffer.concat([bytes.subarray(0, at), put, bytes.subarray(at + removed)])

function flip(bytes: Buffer, random: Random): Buffer {
  const at = place(bytes, random)
  if (bytes.length > 0) bytes.writeUInt8(bytes.readUInt8(at) ^ (1 << random.between(0, 7)), at)
  return bytes
}

function overwrite(bytes: Buffer, random: Random): Buffer {
  const count = random.between(1, 4)
  return splice(bytes, place(bytes, random), count, randomBytes(random, count))
}

function insert(bytes: Buffer, random: Random): Buffer {
  return splice(bytes, random.between(0, bytes.length), 0, randomBytes(random, random.between(1, 8)))
}

function remove(bytes: Buffer, random: Random): Buffer {
  return splice(bytes, place(bytes, random), random.between(1, 8), Buffer.alloc(0))
}

function cut(bytes: Buffer, random: Random): Buffer {
  return bytes.subarray(0, place(bytes, random))
}

/** Copies a part to another place, sometimes thousands of times. */
function repeat(bytes: Buffer, random: Random): Buffer {
  const from = place(bytes, random)
  const part = bytes.subarray(from, from + random.between(1, 32))
  const times = random.chance(0.05) ? random.between(100, 2_000) : random.between(1, 3)
  return splice(bytes, random.between(0, bytes.length), 0, Buffer.concat(Array(times).fill(part)))
}

/** Overwrites one, two or four bytes with a number, as in the header of a frame. */
function number(bytes: Buffer, random: Random): Buffer {
  const value = NUMBERS[random.between(0, NUMBERS.length - 1)] ?? 0
  const put = Buffer.alloc(4)
  put.writeUInt32BE(value)
  const size = random.pick([1, 2, 4])
  return splice(bytes, place(bytes, random), size, put.subarray(4 - size))
}

function swap(bytes: Buffer, random: Random): Buffer {
  const [a = 0, b = 0, c = 0] = [0, 1, 2].map(() => place(bytes, random)).sort((one, other) => one - other)
  return Buffer.concat([bytes.subarray(0, a), bytes.subarray(b, c), bytes.subarray(a, b), bytes.subarray(c)])
}
