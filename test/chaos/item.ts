import { scramble } from './random.js'

/**
 * The argument of one invocation. The key holds the number of the client process and the number of the item there. The
 * retries travel with it, so that an execution can be checked even if the client was killed before it recorded the call.
 */
export type Item = readonly [key: number, retries: number, cost: number]

const NUMBERS = 2 ** 26

export const keyOf = (client: number, number: number): number => client * NUMBERS + number
export const clientOf = (key: number): number => Math.floor(key / NUMBERS)
export const numberOf = (key: number): number => key % NUMBERS

/** The result of a function for an item. Only a function that was called with this key can know it. */
export const resultOf = (key: number): string => `${key.toString(36)}.${scramble(key % 2 ** 32).toString(36)}`

/** The key of the item that a result belongs to; undefined if it is no valid result. */
export function keyIn(result: string): number | undefined {
  const key = Number.parseInt(result, 36)
  return Number.isSafeInteger(key) && resultOf(key) === result ? key : undefined
}

/** Milliseconds on the monotonic clock that all processes of a machine share. */
export const now = (): number => Number(process.hrtime.bigint() / 1_000n) / 1_000
