import type { Random } from '../chaos/random.js'
import { LARGE_NUMBERS, mutateBytes, randomBytes } from './bytes.js'

/** Mutations of protobuf messages. Most results are still valid protobuf, with other fields or values. */

interface Field {
  readonly number: bigint
  readonly type: number
  /** The bytes behind the tag, without the length prefix. */
  readonly body: Buffer
  /** A wrong length prefix. */
  readonly announced?: bigint
}

const VARINT = 0
const LENGTH = 2
const FIXED_BYTES: Readonly<Record<number, number>> = { 1: 8, 5: 4 }

type Change = (fields: Field[], at: number, random: Random, foreign: readonly Uint8Array[]) => void

const CHANGES: readonly [Change, ...Change[]] = [
  inside,
  inside,
  inside,
  extreme,
  extreme,
  drop,
  duplicate,
  splice,
  renumber,
  retype,
  wrongLength,
  nest,
  overlong,
  move,
  scramble,
  add,
]

/** Applies at least one change to a message, at any depth. Fields of the `foreign` messages may be inserted. */
export function mutateMessage(bytes: Uint8Array, random: Random, foreign: readonly Uint8Array[]): Buffer {
  let mutated: Buffer = Buffer.from(bytes)
  do mutated = change(mutated, random, foreign)
  while (random.chance(0.35))
  return mutated
}

function change(bytes: Buffer, random: Random, foreign: readonly Uint8Array[]): Buffer {
  const fields = fieldsOf(bytes)
  if (!fields || random.chance(0.1)) return mutateBytes(bytes, random)
  if (fields.length === 0) add(fields, 0, random)
  else random.pick<Change>(CHANGES)(fields, random.between(0, fields.length - 1), random, foreign)
  return Buffer.concat(fields.map(encoded))
}

/** The fields of a message; undefined if the bytes are no protobuf message. */
function fieldsOf(bytes: Buffer): Field[] | undefined {
  const fields: Field[] = []
  let at = 0
  const varint = (): bigint | undefined => {
    for (let value = 0n, shift = 0n; at < bytes.length && shift < 70n; shift += 7n) {
      const byte = bytes.readUInt8(at++)
      value |= BigInt(byte & 127) << shift
      if (byte < 128) return value
    }
    return undefined
  }
  while (at < bytes.length) {
    const tag = varint()
    if (tag === undefined || tag < 8n) return undefined
    const type = Number(tag & 7n)
    const from = at
    const length = type === VARINT ? varint() : type === LENGTH ? varint() : FIXED_BYTES[type]
    if (length === undefined) return undefined
    const begin = type === LENGTH ? at : from
    const end = type === VARINT ? at : begin + Number(length)
    if (end > bytes.length) return undefined
    fields.push({ number: tag >> 3n, type, body: bytes.subarray(begin, end) })
    at = end
  }
  return fields
}

function encoded({ number, type, body, announced }: Field): Buffer {
  const head = varintOf((number << 3n) | BigInt(type))
  if (type !== LENGTH) return Buffer.concat([head, body])
  return Buffer.concat([head, varintOf(announced ?? BigInt(body.length)), body])
}

function varintOf(value: bigint, least = 1): Buffer {
  const bytes: number[] = []
  for (let rest = BigInt.asUintN(64, value); rest > 0n || bytes.length < least; rest >>= 7n)
    bytes.push(Number(rest & 127n) | 128)
  bytes.push((bytes.pop() ?? 0) & 127)
  return Buffer.from(bytes)
}

const extremeOf = (random: Random): bigint =>
  random.chance(0.7) ? random.pick(LARGE_NUMBERS) : BigInt(random.between(0, 40))

const messageIn = (field: Field): Buffer | undefined =>
  field.type === LENGTH && field.body.length > 0 && fieldsOf(field.body) ? field.body : undefined

function inside(fields: Field[], at: number, random: Random, foreign: readonly Uint8Array[]): void {
  const field = fields[at] as Field
  if (field.type !== LENGTH) return extreme(fields, at, random)
  const body = messageIn(field) ? change(field.body, random, foreign) : mutateBytes(field.body, random)
  fields[at] = { ...field, body }
}

function extreme(fields: Field[], at: number, random: Random): void {
  const field = fields[at] as Field
  if (field.type === VARINT) fields[at] = { ...field, body: varintOf(extremeOf(random)) }
  else if (field.type !== LENGTH) fields[at] = { ...field, body: randomBytes(random, field.body.length) }
  else fields[at] = { ...field, body: Buffer.alloc(random.pick([0, 1, 63, 64, 65, 127, 128, 300, 70_000]), 0x61) }
}

function drop(fields: Field[], at: number): void {
  fields.splice(at, 1)
}

function duplicate(fields: Field[], at: number, random: Random): void {
  const times = random.chance(0.05) ? random.between(50, 1_000) : random.between(1, 3)
  fields.splice(at, 0, ...Array<Field>(times).fill(fields[at] as Field))
}

/** Inserts one or all fields of another message. */
function splice(fields: Field[], at: number, random: Random, foreign: readonly Uint8Array[]): void {
  const other = foreign[random.between(0, foreign.length - 1)]
  const own = other ? (fieldsOf(Buffer.from(other)) ?? []) : []
  const some = random.chance(0.5) ? own : own.slice(0, 1)
  fields.splice(at, random.between(0, 1), ...some)
}

function renumber(fields: Field[], at: number, random: Random): void {
  const number = random.chance(0.8) ? BigInt(random.between(1, 15)) : random.pick([0n, 16n, 2_047n, 2n ** 29n - 1n])
  fields[at] = { ...(fields[at] as Field), number }
}

/** Changes the wire type: 3 and 4 are groups, 6 and 7 are not defined. */
function retype(fields: Field[], at: number, random: Random): void {
  fields[at] = { ...(fields[at] as Field), type: random.between(0, 7) }
}

function wrongLength(fields: Field[], at: number, random: Random): void {
  const field = fields[at] as Field
  const near = BigInt(field.body.length + random.pick([-1, 1, 2, 100]))
  fields[at] = { ...field, type: LENGTH, announced: random.chance(0.5) ? near : extremeOf(random) }
}

/** Nests a field in many messages or groups. */
function nest(fields: Field[], at: number, random: Random): void {
  const field = fields[at] as Field
  const depth = random.chance(0.1) ? random.between(500, 3_000) : random.between(1, 150)
  if (random.chance(0.3)) {
    const begin = varintOf((field.number << 3n) | 3n)
    const end = varintOf((field.number << 3n) | 4n)
    const isClosed = random.chance(0.7)
    const body = Buffer.concat([
      ...Array(depth).fill(begin),
      encoded(field),
      ...(isClosed ? Array(depth).fill(end) : []),
    ])
    // The first group's tag is the tag of this field.
    fields[at] = { number: field.number, type: 3, body: body.subarray(begin.length) }
    return
  }
  let nested = field
  let bytes = 0
  for (let level = 0; level < depth && bytes < 100_000; level++) {
    nested = { number: field.number, type: LENGTH, body: encoded(nested) }
    bytes += nested.body.length
  }
  fields[at] = nested
}

/** A varint in more bytes than it needs, or than are allowed. */
function overlong(fields: Field[], at: number, random: Random): void {
  const field = fields[at] as Field
  const value = varintOf(extremeOf(random), random.between(2, 12))
  fields[at] = { number: field.number, type: VARINT, body: value }
}

function move(fields: Field[], at: number, random: Random): void {
  fields.splice(random.between(0, fields.length), 0, ...fields.splice(at, 1))
}

function scramble(fields: Field[], at: number, random: Random): void {
  const field = fields[at] as Field
  fields[at] = { ...field, body: mutateBytes(field.body, random) }
}

function add(fields: Field[], at: number, random: Random): void {
  const number = BigInt(random.between(1, 15))
  const field = random.chance(0.5)
    ? { number, type: VARINT, body: varintOf(extremeOf(random)) }
    : { number, type: LENGTH, body: randomBytes(random, random.between(0, 40)) }
  fields.splice(at, 0, field)
}
