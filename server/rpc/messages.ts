import { Join } from '../../wire/join.js'
import { MESSAGE_PREFIX_BYTES, PIECE_BYTES, PIECES } from '../../wire/limits.js'

/** What cuts what comes into messages, in grpc-js: what we touch of it. A message has its prefix before it. */
export interface Decoder {
  /** Of the message that has not come whole. */
  readPartialMessage: Buffer[]
  readState: number
  readonly readCompressFlag: Buffer
  readonly readPartialSize: Buffer
  readonly readMessageSize: number
  readonly readMessageRemaining: number
  write(data: Buffer): Buffer[]
}

/** Its states: between two messages, and behind the prefix of one. */
const NO_DATA = 0
const READING_MESSAGE = 2

/** One that is built otherwise is left as it is. */
export const isDecoder = (decoder: Partial<Decoder> | undefined): decoder is Decoder =>
  typeof decoder?.write === 'function' &&
  Array.isArray(decoder.readPartialMessage) &&
  [decoder.readState, decoder.readMessageSize, decoder.readMessageRemaining].every(Number.isInteger) &&
  [decoder.readCompressFlag, decoder.readPartialSize].every(Buffer.isBuffer)

/** What its `write` does, with large messages joined as they come, and small pieces joined so many at a time. */
export function messagesOf(decoder: Decoder): (data: Buffer) => Buffer[] {
  const { write } = Object.getPrototypeOf(decoder) as Decoder
  let large: Join | undefined
  return function messages(data: Buffer): Buffer[] {
    if (!large) {
      const whole = write.call(decoder, data)
      large = largeOf(decoder)
      if (!large) joinSmallPieces(decoder)
      return whole
    }
    const rest = large.fill(data)
    if (!rest) return []
    const message = large.take()
    large = undefined
    decoder.readState = NO_DATA
    return rest.length === 0 ? [message] : [message, ...messages(rest)]
  }
}

/** Takes over a large message of which enough has come; until then it may come byte by byte. */
function largeOf(decoder: Decoder): Join | undefined {
  const { readState, readMessageSize: size, readMessageRemaining: remaining } = decoder
  if (readState !== READING_MESSAGE || !Join.isEnough(size - remaining, size)) return undefined
  const large = new Join(size + MESSAGE_PREFIX_BYTES)
  for (const piece of [decoder.readCompressFlag, decoder.readPartialSize, ...decoder.readPartialMessage])
    large.add(piece)
  decoder.readPartialMessage = []
  return large
}

/** How many of the pieces of a message need no further look. */
const looked = new WeakMap<Buffer[], number>()

/** Each byte is copied once. */
function joinSmallPieces({ readPartialMessage: pieces }: Decoder): void {
  if (pieces.length < PIECES) return
  const first = looked.get(pieces) ?? 0
  if (pieces.length - first < PIECES) return
  const recent = pieces.slice(first)
  const small = recent.reduce((sum, piece) => sum + piece.length, 0) < recent.length * PIECE_BYTES
  if (small) pieces.splice(first, recent.length, Buffer.concat(recent))
  looked.set(pieces, pieces.length)
}
