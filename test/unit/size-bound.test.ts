import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { encodePayload } from '../../wire/values/payload.js'
import { sizeBound } from '../../wire/values/size-bound.js'

const NO_LIMIT = Number.POSITIVE_INFINITY

/** How many bytes the value adds to a list; undefined if it cannot be encoded. */
function sizeInList(value: unknown, kind: 'cbor' | 'json'): number | undefined {
  try {
    return encodePayload([0, value], kind).length - encodePayload([0], kind).length
  } catch {
    return undefined
  }
}

describe('the bound of the size of a value', () => {
  const text = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 200 }),
    fc.constantFrom('\u0001\u0002', '\ud800', '€'.repeat(99)),
  )
  const value = fc.anything({
    values: [
      text,
      fc.double(),
      fc.integer(),
      fc.bigInt(),
      fc.boolean(),
      fc.constantFrom(null, undefined, -1.2345678901234567e-308),
      fc.date({ noInvalidDate: false }),
    ],
    key: text,
    withMap: true,
    withSet: true,
    withTypedArray: true,
    withNullPrototype: true,
  })

  it.each(['cbor', 'json'] as const)('is never less than its size (%s)', (kind) => {
    fc.assert(
      fc.property(value, (one) => {
        const size = sizeInList(one, kind)
        // The heads of a list and of a payload grow with their content, by a few bytes.
        if (size !== undefined) expect(sizeBound(one, kind, NO_LIMIT) + 8).toBeGreaterThanOrEqual(size)
      }),
      { numRuns: 2_000 },
    )
  })

  it('is never less than what toJSON returns', () => {
    const one = { toJSON: () => '\u0001'.repeat(1_000) }
    expect(sizeBound([one], 'json', NO_LIMIT)).toBeGreaterThanOrEqual(6_000)
  })

  it('is found for what cannot be encoded too', () => {
    const cycle: { left?: unknown; right?: unknown } = {}
    cycle.left = cycle
    cycle.right = cycle
    const throwing = Object.defineProperty({}, 'x', {
      enumerable: true,
      get: () => {
        throw new Error('a getter')
      },
    })
    const { proxy, revoke } = Proxy.revocable({}, {})
    revoke()
    for (const one of [cycle, throwing, proxy, () => 1, Symbol('s')]) {
      expect(sizeBound(one, 'cbor', NO_LIMIT)).toBeGreaterThan(0)
      expect(sizeBound(one, 'json', NO_LIMIT)).toBeGreaterThan(0)
    }
  })

  it('is found without a walk through all of a value that is larger than the limit', () => {
    let walked = 0
    const part = () => Object.defineProperty({}, 'x', { enumerable: true, get: () => ++walked && 'x'.repeat(100) })
    expect(sizeBound(Array.from({ length: 1_000 }, part), 'cbor', 1_000)).toBeGreaterThan(1_000)
    expect(walked).toBeLessThan(20)
  })
})
