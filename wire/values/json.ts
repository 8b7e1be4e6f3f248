/**
 * JSON as a strict encoding of values. JSON.stringify silently changes NaN, a Map, bytes and more; here they are errors.
 * A value is therefore read twice: the Checker walks it first, JSON.stringify writes it afterwards.
 */

import {
  DecodeError,
  described,
  EncodeError,
  formatPath,
  MAX_DEPTH,
  reasonOf,
  toEncodeError,
  type ValuePath,
} from './value-errors.js'

/**
 * Encodes a value as JSON. A top-level undefined becomes null, an undefined property is left out, a Date becomes its ISO
 * text, and `toJSON` is called as JSON.stringify calls it. Lone surrogates become U+FFFD.
 * @throws EncodeError that names the part JSON cannot carry.
 */
export function encodeJson(value: unknown): string {
  const checker = new Checker()
  try {
    checker.check(value, '')
    const text = JSON.stringify(value === undefined ? null : value) ?? 'null'
    // JSON.stringify escapes a lone surrogate. This is rare, so only such a text is parsed and walked again.
    return text.includes('\\ud') ? JSON.stringify(wellFormed(JSON.parse(text))) : text
  } catch (error) {
    throw toEncodeError(error, checker.path)
  }
}

/** Decodes a JSON text. A key `__proto__` becomes an own property. @throws DecodeError */
export function decodeJson(text: string): unknown {
  const value = parse(text)
  // Each level takes at least two characters, so a short text cannot be too deep.
  if (text.length > 2 * MAX_DEPTH) checkDepth(value, 0)
  return text.includes('\\u') ? wellFormed(value) : value
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new DecodeError(`malformed JSON: ${reasonOf(error)}`, { cause: error })
  }
}

/** Walks a value and throws at the first part that JSON cannot carry. */
class Checker {
  readonly #path: ValuePath = []
  /** The containers around the current part. A container that is inside itself is a cycle. */
  readonly #containers: object[] = []

  /** The path of the current part. */
  get path(): string {
    return formatPath(this.#path, this.#containers.length)
  }

  check(value: unknown, key: string): void {
    switch (typeof value) {
      case 'string':
      case 'boolean':
        return
      case 'undefined':
        if (Array.isArray(this.#containers.at(-1))) this.#refuse('undefined')
        return
      case 'number':
        if (!Number.isFinite(value)) this.#refuse(String(value))
        return
      case 'object':
        if (value !== null) this.#checkObject(value, key, true)
        return
      default:
        this.#refuse(described(value))
    }
  }

  #checkObject(value: object, key: string, mayConvert: boolean): void {
    const depth = this.#containers.length
    if (this.#containers.includes(value)) throw new EncodeError(`${this.path} is a cycle: it contains itself`)
    if (depth >= MAX_DEPTH) {
      throw new EncodeError(`${formatPath(this.#path, 4)}… is nested deeper than ${MAX_DEPTH} levels`)
    }
    if (value instanceof Date && Number.isNaN(value.getTime())) this.#refuse('an invalid Date')
    if (ArrayBuffer.isView(value)) this.#refuse(described(value))
    if (mayConvert && 'toJSON' in value && typeof value.toJSON === 'function') {
      const converted: unknown = value.toJSON(key)
      // Only once, as in JSON.stringify: toJSON may return its own object.
      if (typeof converted === 'object' && converted !== null) return this.#checkObject(converted, key, false)
      return this.check(converted, key)
    }
    const kind = Object.prototype.toString.call(value)
    if (kind !== '[object Object]' && kind !== '[object Array]') this.#refuse(described(value))
    this.#containers.push(value)
    if (Array.isArray(value)) {
      for (let i = 0; i < value.length; i++) {
        this.#path[depth] = i
        this.check(value[i], String(i))
      }
    } else {
      for (const name of Object.keys(value)) {
        this.#path[depth] = name
        this.check((value as Record<string, unknown>)[name], name)
      }
    }
    this.#containers.pop()
  }

  #refuse(kind: string): never {
    throw new EncodeError(
      `${this.path} is ${kind}, which JSON cannot carry; use CBOR or send another value (see docs/reference/values.md)`,
    )
  }
}

/** A copy of a parsed value in which every lone surrogate, in texts and keys, is U+FFFD. */
function wellFormed(value: unknown): unknown {
  if (typeof value === 'string') return Buffer.from(value).toString()
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return value.map(wellFormed)
  const copy = {}
  for (const [key, item] of Object.entries(value)) {
    const name = Buffer.from(key).toString()
    // An assignment to `__proto__` would set the prototype.
    Object.defineProperty(copy, name, { value: wellFormed(item), writable: true, enumerable: true, configurable: true })
  }
  return copy
}

/** @throws DecodeError for a value nested deeper than MAX_DEPTH. */
function checkDepth(value: unknown, depth: number): void {
  if (typeof value !== 'object' || value === null) return
  if (depth === MAX_DEPTH) throw new DecodeError(`malformed JSON: it is nested deeper than ${MAX_DEPTH} levels`)
  const items: unknown[] = Array.isArray(value) ? value : Object.values(value)
  for (const item of items) if (typeof item === 'object') checkDepth(item, depth + 1)
}
