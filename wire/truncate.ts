/** Text that is safe to send: well-formed, and no longer than its place allows. */

const MARK = '…'
const MARK_BYTES = 3

/**
 * The text without lone surrogates (which make grpc-js throw while it writes a status) and cut to so many bytes of
 * UTF-8; a cut text ends with an ellipsis.
 */
export function truncateUtf8(text: string, bytes: number): string {
  // No UTF-16 unit is shorter than a byte: what follows is never part of the result.
  const encoded = Buffer.from(text.length > bytes ? text.slice(0, bytes + 1) : text)
  if (encoded.length <= bytes && text.length <= bytes) return encoded.toString()
  if (bytes < MARK_BYTES) return ''
  let end = Math.min(bytes - MARK_BYTES, encoded.length)
  // Step back to the start of a character: continuation bytes are 10xxxxxx.
  while (end > 0 && ((encoded[end] ?? 0) & 0xc0) === 0x80) end--
  return encoded.toString('utf8', 0, end) + MARK
}

/** How long the text is as grpc-message, where every byte outside printable ASCII, and "%", takes three. */
export function percentEncodedLength(text: string): number {
  let length = 0
  for (const byte of Buffer.from(text)) length += byte >= 0x20 && byte <= 0x7e && byte !== 0x25 ? 1 : 3
  return length
}
