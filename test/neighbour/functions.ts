/** The functions of the workers: what the innocent asks for, and what the hostile one abuses. */

/** Computes for so many milliseconds and says which call it was. */
export function work(call: number, ms: number): string {
  spin(ms)
  return answerTo(call)
}

/** The result of a call, which only its own arguments can lead to. */
const answerTo = (call: number): string => `${call}:${call * 7}`

/** For items of a map. */
export const twice = (n: number): number => n * 2

export const noop = (): void => {}

export const busy = (ms: number): void => spin(ms)

export const identity = (value: unknown): unknown => value

/** Something large. */
export const bytes = (length: number): Uint8Array => new Uint8Array(length)

/** Prints so many lines of a hundred letters. */
export function print(lines: number): void {
  process.stdout.write(`${'x'.repeat(99)}\n`.repeat(lines))
}

/** Throws an error with so long a message and so many causes. */
export function fail(length: number, causes: number): never {
  let error = new Error('x'.repeat(length))
  for (let depth = 0; depth < causes; depth++) error = new Error('y'.repeat(length), { cause: error })
  throw error
}

function spin(ms: number): void {
  for (const end = performance.now() + ms; performance.now() < end; );
}
