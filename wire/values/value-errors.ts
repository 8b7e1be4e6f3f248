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

/** The longest part of a text that a message repeats. */
const MAX_TEXT = 100

/** A wrong value, for a message: `"a text"`, `5n`, `the function f`, `an array of 3`, `a Map`. Never throws. */
export function described(value: unknown): string {
  try {
    if (typeof value === 'string') return JSON.stringify(shortened(value))
    if (typeof value === 'bigint') return shortened(`${value}n`)
    if (typeof value === 'function') return `the function ${value.name || '(without a name)'}`
    if (Array.isArray(value)) return `an array of ${value.length}`
    if (typeof value !== 'object' || value === null) return shortened(String(value))
    const name: unknown = Object.getPrototypeOf(value)?.constructor?.name
    if (typeof name !== 'string' || name === '' || name === 'Object') return 'an object'
    return /^[AEIO]/i.test(name) ? `an ${name}` : `a ${name}`
  } catch {
    // A revoked Proxy, or a getter that throws.
    return 'an object that cannot be read'
  }
}

const shortened = (text: string): string => (text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}…` : text)
