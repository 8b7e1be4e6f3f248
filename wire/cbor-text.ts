import { isAscii } from 'node:buffer'
import { DecodeError } from './codec-errors.js'

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Keys that were read lately, by a hash of their bytes: objects of a kind have the same ones. */
const keys: string[] = new Array(512).fill('')
const SHORT_BYTES = 16

/** The text in bytes[start, end). @throws DecodeError */
export function readText(bytes: Buffer, start: number, end: number): string {
  return (end - start <= SHORT_BYTES ? shortAscii(bytes, start, end) : undefined) ?? readLong(bytes, start, end)
}

/** As readText, for the key of an object. */
export function readKey(bytes: Buffer, start: number, end: number): string {
  let hash = end - start
  for (let i = start; i < end; i++) hash = (hash * 31 + (bytes[i] ?? 0)) & 511
  const seen = keys[hash] ?? ''
  if (isSame(seen, bytes, start, end)) return seen
  const key = readText(bytes, start, end)
  // ASCII only: as many bytes as characters. What isSame compares would be wrong for others.
  if (key.length === end - start) keys[hash] = key
  return key
}

function isSame(text: string, bytes: Buffer, start: number, end: number): boolean {
  if (text.length !== end - start) return false
  for (let i = start; i < end; i++) if (text.charCodeAt(i - start) !== bytes[i]) return false
  return true
}

/** By hand, in groups: calling into C++ costs more for a few bytes. Undefined where it is not ASCII. */
function shortAscii(bytes: Buffer, start: number, end: number): string | undefined {
  let text = ''
  let or = 0
  let i = start
  for (; i + 4 <= end; i += 4) {
    const [a = 0, b = 0, c = 0, d = 0] = [bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]
    or |= a | b | c | d
    text += String.fromCharCode(a, b, c, d)
  }
  for (; i < end; i++) {
    const a = bytes[i] ?? 0
    or |= a
    text += String.fromCharCode(a)
  }
  return or > 0x7f ? undefined : text
}

function readLong(bytes: Buffer, start: number, end: number): string {
  const part = bytes.subarray(start, end)
  if (isAscii(part)) return part.toString('latin1')
  try {
    return utf8.decode(part)
  } catch {
    throw new DecodeError(`a text at byte ${start} is not valid UTF-8`)
  }
}
