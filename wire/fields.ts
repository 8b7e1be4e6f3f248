import { ProtoReader } from './proto-reader.js'

/** Which fields of a message are messages whose own fields count, and which are numbers packed into one. */
export interface Shape {
  readonly [field: number]: Shape | 'packed'
}

/**
 * Throws for a message of more than `max` fields, in all its depth, without making anything of them: an empty field is
 * two bytes on the wire, and a hundred and more when it has been decoded. Strict as the reader is.
 */
export function checkFields(bytes: Uint8Array, shape: Shape, max: number): void {
  // The smallest field takes two bytes, the smallest number of a packed one takes one: most messages need no look.
  if (bytes.length <= max) return
  if (count(new ProtoReader(bytes), shape, max) > max) throw new Error(`it has more than ${max} fields`)
}

function count(reader: ProtoReader, shape: Shape, max: number): number {
  let fields = 0
  while (reader.more && fields <= max) {
    const tag = reader.tag()
    fields++
    const nested = (tag & 7) === 2 ? shape[tag >>> 3] : undefined
    if (nested === undefined) reader.skip(tag)
    else if (nested === 'packed') {
      const numbers = reader.message()
      for (; numbers.more && fields <= max; fields++) numbers.varint()
    } else fields += count(reader.message(), nested, max - fields)
  }
  return fields
}
