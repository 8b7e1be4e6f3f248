import { encodePayload, type Kind } from '../../wire/values/payload.js'
import type { Random } from '../chaos/random.js'
import { randomBytes } from './bytes.js'

/** A random value that JSON and CBOR can carry. */
export function plainValue(random: Random, depth = 3): unknown {
  const leaves = [
    () => random.between(-5, 300),
    () => random.next() * 10 ** random.between(-5, 15),
    () => random.pick([true, false, null, 0, '', '\ud83d\ude08', '__proto__', 'constructor', 2 ** 53 - 1, -(2 ** 31)]),
    () => 'text '.repeat(random.between(0, 30)),
  ] as const
  if (depth === 0 || random.chance(0.4)) return random.pick(leaves)()
  const items = Array.from({ length: random.between(0, 4) }, () => plainValue(random, depth - 1))
  return random.chance(0.5)
    ? items
    : Object.fromEntries(items.map((item, at) => [random.pick(['a', 'b', `k${at}`]), item]))
}

/** A random value that CBOR can carry. */
function cborValue(random: Random): unknown {
  return random.pick([
    () => plainValue(random),
    () => new Date(random.between(-1e9, 1e9) * 1_000),
    () => BigInt(random.between(0, 1e9)) ** BigInt(random.between(1, 9)),
    () => new Map<unknown, unknown>([[plainValue(random, 1), plainValue(random, 1)]]),
    () => new Set([plainValue(random, 1), 1]),
    () => new Float64Array([random.next(), Number.NaN, 1]),
    () => new Uint8Array(randomBytes(random, random.between(0, 50))),
    () => [Number.NaN, Number.POSITIVE_INFINITY, undefined, -0],
  ])()
}

/** A random encoded payload. */
export function payload(random: Random): Buffer {
  const kind: Kind = random.pick(['json', 'cbor', 'raw'])
  const value = { json: plainValue, cbor: cborValue, raw: () => randomBytes(random, random.between(0, 200)) }[kind](
    random,
  )
  return Buffer.from(encodePayload(value, kind))
}

/** A random encoded chunk: an array of items. */
export function chunk(random: Random): Buffer {
  const items = Array.from({ length: random.between(0, 5) }, () => plainValue(random, 1))
  return Buffer.from(encodePayload(items, random.pick(['json', 'cbor'])))
}

export const object = (random: Random): Buffer =>
  Buffer.from(
    encodePayload(
      { [random.pick(['a', 'greeting', '__proto__'])]: plainValue(random, 1) },
      random.pick(['json', 'cbor']),
    ),
  )
