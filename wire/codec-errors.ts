/** A value that cannot be sent. The message names the place inside the value. */
export class EncodeError extends Error {
  override readonly name = 'EncodeError'
}

/** Bytes or text that are no value. */
export class DecodeError extends Error {
  override readonly name = 'DecodeError'
}
