/** A value that cannot be sent. The message names the place inside the value. */
export class EncodeError extends Error {
  override readonly name = 'EncodeError'
}

/** Bytes or text that are no value. */
export class DecodeError extends Error {
  override readonly name = 'DecodeError'
}

/** What was thrown, in words. Never throws itself, whatever a getter or a Proxy of the user's has thrown. */
export function reasonOf(thrown: unknown): string {
  try {
    return String(thrown instanceof Error ? thrown.message : thrown)
  } catch {
    return 'what was thrown cannot be printed'
  }
}

/** What ends an encoding: an EncodeError as it is; what a getter or a Proxy threw as the cause of one. */
export function toEncodeError(thrown: unknown, place: string): EncodeError {
  try {
    if (thrown instanceof EncodeError) return thrown
  } catch {
    // A Proxy that does not say what it is: no EncodeError.
  }
  return new EncodeError(`${place} cannot be read: ${reasonOf(thrown)}`, { cause: thrown })
}
