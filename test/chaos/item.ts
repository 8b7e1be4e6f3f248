import { scramble } from './random.js'

/**
 * One invocation that a client asks for: an apply has one, a map as many as items. Its key says which client process it
 * belongs to, and its number there; the rest travels with it, so that a record of its execution can be judged also
 * where the client that asked for it was killed before it could write down what it asked for.
 */
export type Item = readonly [key: number, retries: number, cost: number]

const NUMBERS = 2 ** 26

export const keyOf = (client: number, number: number): number => client * NUMBERS + number
export const clientOf = (key: number): number => Math.floor(key / NUMBERS)
export const numberOf = (key: number): number => key % NUMBERS

/** What a function returns for an item: only one that was called with this key can know it. */
export const resultOf = (key: number): string => `${key.toString(36)}.${scramble(key % 2 ** 32).toString(36)}`

/** The key that a result is for; undefined where it is no result of any. */
export function keyIn(result: string): number | undefined {
  const key = Number.parseInt(result, 36)
  return Number.isSafeInteger(key) && resultOf(key) === result ? key : undefined
}

/** Milliseconds on the clock that all processes of a machine share. */
export const now = (): number => Number(process.hrtime.bigint() / 1_000n) / 1_000
