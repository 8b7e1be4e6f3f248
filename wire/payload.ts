import { Payload } from '../proto/gen/farpool/v1/payload.js'
import { decodeCbor } from './cbor-decode.js'
import { encodeCborBehind } from './cbor-encode.js'
import type { Writer } from './cbor-writer.js'
import { DecodeError, EncodeError } from './codec-errors.js'
import { decodeJson, encodeJson } from './json.js'
import { decodeStrictly } from './message.js'
import { describeKind } from './place.js'

/** How a value is encoded: the members of farpool.v1.Payload. */
export type Kind = 'json' | 'cbor' | 'raw'

/** The head of a payload: a field's tag, and its length as a varint of at most five bytes. */
const HEAD_BYTES = 6
const TAG: Readonly<Record<Kind, number>> = { json: 0x0a, cbor: 0x12, raw: 0x1a }

/**
 * A value as the bytes of a farpool.v1.Payload. The head is written in front of the encoding, so that the value is
 * copied once.
 * @throws EncodeError that names the place of what cannot be sent.
 */
export function encodePayload(value: unknown, kind: Kind): Uint8Array {
  switch (kind) {
    case 'cbor':
      return encodeCborBehind(value, HEAD_BYTES, (writer) => writer.copy(putHead(writer)))
    case 'json':
      return Payload.encode({ kind: { $case: 'json', value: encodeJson(value) } }).finish()
    case 'raw':
      return Payload.encode({ kind: { $case: 'raw', value: rawBytes(value) } }).finish()
  }
}

/**
 * The value in a farpool.v1.Payload. Bytes in it are views on `payload`.
 * @throws DecodeError for what is no payload, or holds no value of its kind.
 */
export function decodePayload(payload: Uint8Array): { kind: Kind; value: unknown } {
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
    throw new DecodeError(`not a farpool.v1.Payload: ${error instanceof Error ? error.message : String(error)}`)
  }
}

/** Writes the head into the room in front; returns where it begins. */
function putHead(writer: Writer): number {
  const varint: number[] = []
  for (let rest = writer.length - HEAD_BYTES; ; rest = Math.floor(rest / 128)) {
    varint.push(rest < 128 ? rest : (rest % 128) | 128)
    if (rest < 128) break
  }
  const start = HEAD_BYTES - varint.length - 1
  writer.put(start, TAG.cbor)
  for (const [i, byte] of varint.entries()) writer.put(start + 1 + i, byte)
  return start
}

function rawBytes(value: unknown): Uint8Array {
  if (value instanceof Uint8Array) return value
  if (value instanceof ArrayBuffer) return new Uint8Array(value)
  throw new EncodeError(
    `value is ${describeKind(value)}; a raw payload carries bytes: a Uint8Array, a Buffer or an ArrayBuffer`,
  )
}
