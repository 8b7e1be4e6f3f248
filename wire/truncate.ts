const ELLIPSIS = '…'
const ELLIPSIS_BYTES = 3

/**
 * The text in at most `bytes` bytes of UTF-8. A truncated text ends with an ellipsis. Lone surrogates become U+FFFD, because
 * grpc-js throws when it writes a status that has one.
 */
export function truncateUtf8(text: string, bytes: number): string {
  // A UTF-16 unit takes at least one byte, so the rest of the text can never be part of the result.
  const encoded = Buffer.from(text.length > bytes ? text.slice(0, bytes + 1) : text)
  if (encoded.length <= bytes && text.length <= bytes) return encoded.toString()
  if (bytes < ELLIPSIS_BYTES) return ''
  let end = Math.min(bytes - ELLIPSIS_BYTES, encoded.length)
  // Back to the start of a character. Its continuation bytes are 10xxxxxx.
  while (end > 0 && ((encoded[end] ?? 0) & 0xc0) === 0x80) end--
  return encoded.toString('utf8', 0, end) + ELLIPSIS
}

/** The length of the text as grpc-message, which takes three bytes for "%" and for each byte outside printable ASCII. */
export function percentEncodedLength(text: string): number {
  let length = 0
  for (const byte of Buffer.from(text)) length += byte >= 0x20 && byte <= 0x7e && byte !== 0x25 ? 1 : 3
  return length
}
