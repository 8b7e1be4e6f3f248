import { DecodeError, describeKind, EncodeError, MAX_DEPTH, Place, reasonOf, toEncodeError } from './value-errors.js'

/**
 * Encodes a value as JSON, strictly: what JSON would change silently (NaN, a Map, bytes, …) is an error.
 * undefined is null at the top and left out in objects; a Date is its ISO text; `toJSON` is honoured.
 * @throws EncodeError that names the place.
 */
export function encodeJson(value: unknown): string {
  const check = new Checker()
  try {
    check.value(value, '')
    const text = JSON.stringify(value === undefined ? null : value) ?? 'null'
    // A lone surrogate is written as an escape; rarely, so that only then the value is walked again.
    return text.includes('\\ud') ? JSON.stringify(wellFormed(JSON.parse(text))) : text
  } catch (error) {
    throw toEncodeError(error, check.place)
  }
}

/** Decodes a JSON text; a key `__proto__` is an own property. @throws DecodeError */
export function decodeJson(text: string): unknown {
  const value = parse(text)
  // Every level takes two characters.
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

/** Finds what JSON cannot carry. */
class Checker {
  readonly #place = new Place()
  readonly #inside: object[] = []

  get place(): string {
    return this.#place.at(this.#inside.length)
  }

  value(value: unknown, key: string): void {
    switch (typeof value) {
      case 'string':
      case 'boolean':
        return
      case 'undefined':
        if (Array.isArray(this.#inside.at(-1))) this.#refuse('undefined')
        return
      case 'number':
        if (!Number.isFinite(value)) this.#refuse(String(value))
        return
      case 'object':
        if (value !== null) this.#object(value, key, true)
        return
      default:
        this.#refuse(describeKind(value))
    }
  }

  #object(value: object, key: string, mayConvert: boolean): void {
    const depth = this.#inside.length
    if (this.#inside.includes(value))
      throw new EncodeError(`${this.place} is a cycle: it contains itself; send it without`)
    if (depth >= MAX_DEPTH) throw new EncodeError(`${this.#place.at(4)}… is nested deeper than ${MAX_DEPTH} levels`)
    if (value instanceof Date && Number.isNaN(value.getTime())) this.#refuse('an invalid Date')
    if (ArrayBuffer.isView(value)) this.#refuse(describeKind(value))
    if (mayConvert && 'toJSON' in value && typeof value.toJSON === 'function') {
      const converted: unknown = value.toJSON(key)
      // Once, as JSON.stringify does it: toJSON may return its own object.
      if (typeof converted === 'object' && converted !== null) return this.#object(converted, key, false)
      return this.value(converted, key)
    }
    const kind = Object.prototype.toString.call(value)
    if (kind !== '[object Object]' && kind !== '[object Array]') this.#refuse(describeKind(value))
    this.#inside.push(value)
    if (Array.isArray(value)) {
      for (let i = 0; i < value.length; i++) {
        this.#place.set(depth, i)
        this.value(value[i], String(i))
      }
    } else {
      for (const name of Object.keys(value)) {
        this.#place.set(depth, name)
        this.value((value as Record<string, unknown>)[name], name)
      }
    }
    this.#inside.pop()
  }

  #refuse(what: string): never {
    throw new EncodeError(
      `${this.place} is ${what}, which JSON cannot carry; use CBOR, or send something else (see docs/values.md)`,
    )
  }
}

/** The value with every lone surrogate, also in keys, as U+FFFD. */
function wellFormed(value: unknown): unknown {
  if (typeof value === 'string') return Buffer.from(value).toString()
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return value.map(wellFormed)
  const copy = {}
  for (const [key, item] of Object.entries(value)) {
    const name = Buffer.from(key).toString()
    Object.defineProperty(copy, name, { value: wellFormed(item), writable: true, enumerable: true, configurable: true })
  }
  return copy
}

/** @throws DecodeError where a value stands in more than MAX_DEPTH containers. */
function checkDepth(value: unknown, depth: number): void {
  if (typeof value !== 'object' || value === null) return
  if (depth === MAX_DEPTH) throw new DecodeError(`malformed JSON: it is nested deeper than ${MAX_DEPTH} levels`)
  const items: unknown[] = Array.isArray(value) ? value : Object.values(value)
  for (const item of items) if (typeof item === 'object') checkDepth(item, depth + 1)
}
