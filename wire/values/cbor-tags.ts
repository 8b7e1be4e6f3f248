/** The numbers of CBOR (RFC 8949, RFC 8746 and the IANA tag registry) that the encoder and the decoder share. */

/** The major type of an item: the upper three bits of its first byte. */
export const Major = { UNSIGNED: 0, NEGATIVE: 1, BYTES: 2, TEXT: 3, ARRAY: 4, MAP: 5, TAG: 6, SIMPLE: 7 } as const

/** The tags that are supported, besides those of typed arrays. */
export const Tag = {
  DATE_STRING: 0,
  EPOCH_SECONDS: 1,
  POSITIVE_BIGNUM: 2,
  NEGATIVE_BIGNUM: 3,
  SET: 258,
  MAP: 259,
  SELF_DESCRIBED: 55799,
} as const

/**
 * The longest bignum, in bytes (32,768 bits), sent and received. Making or printing a BigInt takes time that grows faster
 * than its length.
 */
export const MAX_BIGNUM_BYTES = 4096

type TypedArrayConstructor = new (buffer: ArrayBufferLike, offset: number, length: number) => ArrayBufferView

interface TypedArrayRow {
  readonly littleEndian: number
  /** The tag for the other byte order. It is decoded and never sent; an array of single bytes has none. */
  readonly bigEndian: number | undefined
  /** The size of an element, in bytes. */
  readonly bytes: 1 | 2 | 4 | 8
  readonly make: TypedArrayConstructor
}

/** By the name that Object.prototype.toString gives. Uint8Array is missing because it is a byte string without a tag. */
const TYPED_ARRAYS: Readonly<Record<string, TypedArrayRow>> = {
  Uint8ClampedArray: { littleEndian: 68, bigEndian: undefined, bytes: 1, make: Uint8ClampedArray },
  Uint16Array: { littleEndian: 69, bigEndian: 65, bytes: 2, make: Uint16Array },
  Uint32Array: { littleEndian: 70, bigEndian: 66, bytes: 4, make: Uint32Array },
  BigUint64Array: { littleEndian: 71, bigEndian: 67, bytes: 8, make: BigUint64Array },
  Int8Array: { littleEndian: 72, bigEndian: undefined, bytes: 1, make: Int8Array },
  Int16Array: { littleEndian: 77, bigEndian: 73, bytes: 2, make: Int16Array },
  Int32Array: { littleEndian: 78, bigEndian: 74, bytes: 4, make: Int32Array },
  BigInt64Array: { littleEndian: 79, bigEndian: 75, bytes: 8, make: BigInt64Array },
  Float32Array: { littleEndian: 85, bigEndian: 81, bytes: 4, make: Float32Array },
  Float64Array: { littleEndian: 86, bigEndian: 82, bytes: 8, make: Float64Array },
}

/** The tag that is sent for a typed array, by its name. */
export const TAG_OF_TYPED_ARRAY: ReadonlyMap<string, number> = new Map(
  Object.entries(TYPED_ARRAYS).map(([name, { littleEndian }]) => [name, littleEndian]),
)

export interface TaggedArray {
  /** The size of an element, in bytes. */
  readonly bytes: 1 | 2 | 4 | 8
  readonly make: TypedArrayConstructor
  /** Whether the bytes of each element have to be reversed. */
  readonly swapped: boolean
}

/** The typed array that a received tag stands for. */
export const TYPED_ARRAY_OF_TAG: ReadonlyMap<number, TaggedArray> = new Map(
  Object.values(TYPED_ARRAYS)
    .flatMap(({ littleEndian, bigEndian, bytes, make }): [number, TaggedArray][] => [
      [littleEndian, { bytes, make, swapped: false }],
      ...(bigEndian === undefined
        ? []
        : ([[bigEndian, { bytes, make, swapped: true }]] satisfies [number, TaggedArray][])),
    ])
    // RFC 8746 has a tag for Uint8Array too. It is decoded, but a byte string without a tag is sent.
    .concat([[64, { bytes: 1, make: Uint8Array, swapped: false }]]),
)
