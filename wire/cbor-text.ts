import { isAscii } from 'node:buffer'
import type { Reader } from './cbor-reader.js'
import { Major } from './cbor-tags.js'

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Keys that were read lately, by a hash of their bytes: objects of a kind have the same ones. */
const keys: string[] = new Array(512).fill('')

/** Up to here, making a text by hand is faster than calling into C++. */
const SHORT_BYTES = 16

/** Room for the characters of a short text, by its length; filled and read within one call. */
const units: readonly number[][] = Array.from({ length: SHORT_BYTES + 1 }, (_, length) => new Array(length).fill(0))

/** What follows the head of a byte string: a view on the message, except where it came in pieces. */
export function readBytes(reader: Reader, info: number): Uint8Array {
  if (info === 31) return joinPieces(reader)
  const length = reader.length(info)
  const start = reader.advance(length)
  return new Uint8Array(reader.bytes.buffer, reader.bytes.byteOffset + start, length)
}

/** What follows the head of a text. */
export function readString(reader: Reader, info: number): string {
  let text = ''
  if (info === 31) {
    while (!reader.isBreak()) text += readText(reader, pieceLength(reader, Major.TEXT))
    return text
  }
  return readText(reader, reader.length(info))
}

/** As readString, for the key of an object. */
export function readKey(reader: Reader, info: number): string {
  if (info > SHORT_BYTES) return readString(reader, info)
  const start = reader.advance(info)
  const { bytes } = reader
  let hash = info
  for (let i = start; i < reader.at; i++) hash = (hash * 31 + (bytes[i] ?? 0)) & 511
  const seen = keys[hash] ?? ''
  if (isSame(seen, bytes, start, reader.at)) return seen
  const key = shortAscii(bytes, start, reader.at)
  if (key === undefined) return longText(reader, start)
  keys[hash] = key
  return key
}

function readText(reader: Reader, length: number): string {
  const start = reader.advance(length)
  return shortAscii(reader.bytes, start, reader.at) ?? longText(reader, start)
}

/** The text from `start` to where the reader is. */
function longText(reader: Reader, start: number): string {
  const part = reader.bytes.subarray(start, reader.at)
  if (isAscii(part)) return part.toString('latin1')
  try {
    return utf8.decode(part)
  } catch {
    return reader.fail('a text is not valid UTF-8', start)
  }
}

/** Undefined where it is not ASCII. One call for the whole text: pieces put together take half as long again. */
function shortAscii(bytes: Uint8Array, start: number, end: number): string | undefined {
  const chars = units[end - start]
  if (chars === undefined) return undefined
  let or = 0
  for (let i = start; i < end; i++) {
    const unit = bytes[i] ?? 0
    or |= unit
    chars[i - start] = unit
  }
  return or > 0x7f ? undefined : String.fromCharCode(...chars)
}

function isSame(text: string, bytes: Uint8Array, start: number, end: number): boolean {
  if (text.length !== end - start) return false
  for (let i = start; i < end; i++) if (text.charCodeAt(i - start) !== bytes[i]) return false
  return true
}

/** Two passes, so that a million empty pieces take no memory. */
function joinPieces(reader: Reader): Uint8Array {
  const start = reader.at
  let total = 0
  while (!reader.isBreak()) total += skipPiece(reader)
  const joined = new Uint8Array(total)
  const end = reader.at
  reader.at = start
  let filled = 0
  while (!reader.isBreak()) {
    const length = skipPiece(reader)
    joined.set(reader.bytes.subarray(reader.at - length, reader.at), filled)
    filled += length
  }
  reader.at = end
  return joined
}

function skipPiece(reader: Reader): number {
  const length = pieceLength(reader, Major.BYTES)
  reader.advance(length)
  return length
}

/** The length of the next piece of a string of indefinite length; a piece has a definite one. */
function pieceLength(reader: Reader, major: number): number {
  const head = reader.byte()
  if (head >> 5 !== major || (head & 31) === 31) reader.fail('a piece of a string is not a string of the same kind')
  return reader.length(head & 31)
}
