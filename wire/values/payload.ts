/** The bytes of farpool.v1.Payload, the form in which every argument and every result travels. */

import { Payload } from '../../proto/gen/farpool/v1/payload.js'
import { decodeStrictly } from '../framing/protobuf.js'
import { decodeCbor } from './cbor-decoder.js'
import { encodeCbor, type Writer } from './cbor-encoder.js'
import { decodeJson, encodeJson } from './json.js'
import { DecodeError, described, EncodeError, reasonOf, toEncodeError } from './value-errors.js'

/** How a value is encoded: the members of farpool.v1.Payload. */
export type Kind = 'json' | 'cbor' | 'raw'

/** The protobuf tag of each member. */
const TAG: Readonly<Record<Kind, number>> = { json: 0x0a, cbor: 0x12, raw: 0x1a }

/** The kind that the first byte of a payload names; undefined for bytes that are no payload. */
export const kindOf = (payload: Uint8Array): Kind | undefined =>
  (Object.keys(TAG) as Kind[]).find((kind) => TAG[kind] === payload[0])

/** The longest head of a payload: the tag, and the length as a varint of at most five bytes. */
const MAX_HEAD_BYTES = 6

/**
 * Encodes a value as a farpool.v1.Payload. The head is written in front of the encoding, so the value is copied only once.
 * @throws EncodeError that names the part of the value that cannot be sent.
 */
export function encodePayload(value: unknown, kind: Kind): Uint8Array {
  switch (kind) {
    case 'cbor':
      return encodeCbor(value, MAX_HEAD_BYTES, finishCbor)
    case 'json': {
      const text = encodeJson(value)
      const length = Buffer.byteLength(text)
      const head = headOf(kind, length)
      const payload = Buffer.allocUnsafeSlow(head.length + length)
      payload.set(head)
      payload.write(text, head.length)
      return new Uint8Array(payload.buffer)
    }
    case 'raw': {
      const bytes = rawBytes(value)
      const head = headOf(kind, bytes.length)
      const payload = Buffer.allocUnsafeSlow(head.length + bytes.length)
      payload.set(head)
      payload.set(bytes, head.length)
      return new Uint8Array(payload.buffer)
    }
  }
}

/** Writes the head into the room in front of the CBOR and copies both out. */
function finishCbor(writer: Writer): Uint8Array {
  const length = writer.length - MAX_HEAD_BYTES
  if (length < 128) {
    writer.put(MAX_HEAD_BYTES - 2, TAG.cbor)
    writer.put(MAX_HEAD_BYTES - 1, length)
    return writer.copy(MAX_HEAD_BYTES - 2)
  }
  const head = headOf('cbor', length)
  const start = MAX_HEAD_BYTES - head.length
  for (const [i, byte] of head.entries()) writer.put(start + i, byte)
  return writer.copy(start)
}

function headOf(kind: Kind, length: number): number[] {
  const head = [TAG[kind]]
  let rest = length
  // Divisions, because a shift would truncate the length to 32 bits.
  for (; rest > 127; rest = Math.floor(rest / 128)) head.push((rest % 128) | 128)
  head.push(rest)
  return head
}

function rawBytes(value: unknown): Uint8Array {
  try {
    if (value instanceof Uint8Array) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength)
    if (value instanceof ArrayBuffer) return new Uint8Array(value, 0, value.byteLength)
  } catch (error) {
    // A buffer that was transferred to another thread, or a Proxy whose traps throw.
    throw toEncodeError(error, 'value')
  }
  throw new EncodeError(
    `value is ${described(value)}; a raw payload carries bytes: a Uint8Array, a Buffer or an ArrayBuffer`,
  )
}

/**
 * Decodes a farpool.v1.Payload. Bytes in the value are views on `payload`.
 * @throws DecodeError for bytes that are not a payload, or not a value of its kind.
 */
export function decodePayload(payload: Uint8Array): { kind: Kind; value: unknown } {
  // Nearly every payload is a single field of fewer than 128 bytes.
  if (payload[0] === TAG.cbor && payload.length < 130 && payload[1] === payload.length - 2) {
    const { buffer, byteOffset, length } = payload
    return { kind: 'cbor', value: decodeCbor(new Uint8Array(buffer, byteOffset + 2, length - 2)) }
  }
  const { kind } = parse(payload)
  switch (kind?.$case) {
    case 'cbor':
      return { kind: 'cbor', value: decodeCbor(kind.value) }
    case 'json':
      return { kind: 'json', value: decodeJson(kind.value) }
    case 'raw':
      return { kind: 'raw', value: new Uint8Array(kind.value.buffer, kind.value.byteOffset, kind.value.length) }
    case undefined:
      throw new DecodeError('the payload is empty: none of json, cbor, raw is set')
  }
}

function parse(payload: Uint8Array): Payload {
  try {
    return decodeStrictly(Payload, payload)
  } catch (error) {
    throw new DecodeError(`not a farpool.v1.Payload: ${reasonOf(error)}`, { cause: error })
  }
}
