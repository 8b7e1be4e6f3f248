/** The errors of encoding and decoding values, and the text that their messages are made of. */

/** A value that cannot be sent. The message names the part that is the reason, for example `value.rows[3].f`. */
export class EncodeError extends Error {
  override readonly name = 'EncodeError'
}

/** Bytes or text that do not hold a value. */
export class DecodeError extends Error {
  override readonly name = 'DecodeError'
}

/** The deepest nesting of containers, for JSON and CBOR, sent and received. Deeper data is a mistake or an attack. */
export const MAX_DEPTH = 500

/** The steps from a value to one of its parts: property names, Map keys and array indexes, one for each level. */
export type ValuePath = (string | number)[]

/** The first `depth` steps of a path as code would write them: `value.rows[3].f`. */
export function formatPath(path: ValuePath, depth: number): string {
  let text = 'value'
  for (const step of path.slice(0, depth)) {
    if (typeof step === 'number') text += `[${step}]`
    else text += /^[A-Za-z_$][\w$]*$/.test(step) ? `.${step}` : `[${JSON.stringify(step)}]`
  }
  return text
}

/** The message of a thrown value. Never throws, although the getters and Proxies of users may. */
export function reasonOf(thrown: unknown): string {
  try {
    return String(thrown instanceof Error ? thrown.message : thrown)
  } catch {
    return 'a value that cannot be printed was thrown'
  }
}

/** An EncodeError as it is; anything else, for example the error of a getter, becomes the cause of one. */
export function toEncodeError(thrown: unknown, path: string): EncodeError {
  try {
    if (thrown instanceof EncodeError) return thrown
  } catch {
    // A Proxy whose traps throw. It is not an EncodeError.
  }
  return new EncodeError(`${path} cannot be read: ${reasonOf(thrown)}`, { cause: thrown })
}

/** The kind of a value for messages: "a function", "an ArrayBuffer". */
export function describeKind(value: unknown): string {
  if (typeof value !== 'object' || value === null) return `a ${typeof value}`
  const tag = tagOf(value)
  return /^[AEIO]/i.test(tag) ? `an ${tag}` : `a ${tag}`
}

function tagOf(value: object): string {
  try {
    return Object.prototype.toString.call(value).slice(8, -1)
  } catch {
    // A revoked Proxy, or a getter of Symbol.toStringTag that throws.
    return 'object'
  }
}
