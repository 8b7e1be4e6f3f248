import { DecodeError, EncodeError } from './codec-errors.js'
import { describeKind, MAX_DEPTH, Place } from './place.js'

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
    if (error instanceof EncodeError) throw error
    const why = error instanceof Error ? error.message : String(error)
    throw new EncodeError(`${check.place} cannot be read: ${why}`, { cause: error })
  }
}

/** Decodes a JSON text; a key `__proto__` is an own property. @throws DecodeError */
export function decodeJson(text: string): unknown {
  checkDepth(text)
  try {
    const value: unknown = JSON.parse(text)
    return text.includes('\\u') ? wellFormed(value) : value
  } catch (error) {
    throw new DecodeError(`malformed JSON: ${error instanceof Error ? error.message : String(error)}`)
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
        if (value !== null) this.#object(value, key)
        return
      default:
        this.#refuse(describeKind(value))
    }
  }

  #object(value: object, key: string): void {
    const depth = this.#inside.length
    if (this.#inside.includes(value))
      throw new EncodeError(`${this.place} is a cycle: it contains itself; send it without`)
    if (depth >= MAX_DEPTH) throw new EncodeError(`${this.#place.at(4)}… is nested deeper than ${MAX_DEPTH} levels`)
    if (value instanceof Date && Number.isNaN(value.getTime())) this.#refuse('an invalid Date')
    if (ArrayBuffer.isView(value)) this.#refuse(describeKind(value))
    if ('toJSON' in value && typeof value.toJSON === 'function') return this.value(value.toJSON(key), key)
    const kind = Object.prototype.toString.call(value)
    if (kind !== '[object Object]' && kind !== '[object Array]') this.#refuse(describeKind(value))
    this.#inside.push(value)
    if (Array.isArray(value)) {
      for (let i = 0; i < value.length; i++) {
        this.#place.set(depth, i)
        this.value(value[i], String(i))
      }
    } else {
      for (const [name, item] of Object.entries(value)) {
        this.#place.set(depth, name)
        this.value(item, name)
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

/** Brackets in texts do not count. @throws DecodeError */
function checkDepth(text: string): void {
  // Every level takes two characters.
  if (text.length <= 2 * MAX_DEPTH) return
  let depth = 0
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i)
    if (unit === 0x22) {
      i = endOfText(text, i)
      if (i < 0) return
    } else if (unit === 0x5b || unit === 0x7b) {
      if (++depth > MAX_DEPTH) throw new DecodeError(`malformed JSON: it is nested deeper than ${MAX_DEPTH} levels`)
    } else if (unit === 0x5d || unit === 0x7d) depth--
  }
}

/** The quote that ends the text which begins at `start`; -1 for none. */
function endOfText(text: string, start: number): number {
  for (let end = text.indexOf('"', start + 1); end >= 0; end = text.indexOf('"', end + 1)) {
    let escapes = 0
    while (text.charCodeAt(end - 1 - escapes) === 0x5c) escapes++
    if (escapes % 2 === 0) return end
  }
  return -1
}
