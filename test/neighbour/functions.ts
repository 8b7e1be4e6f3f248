/** The functions that the workers run for both clients. */

/** Computes for `ms` milliseconds. The result depends on the call, so that the client can check it. */
export function work(call: number, ms: number): string {
  spin(ms)
  return `${call}:${call * 7}`
}

export const twice = (n: number): number => n * 2

export const noop = (): void => {}

export const busy = (ms: number): void => spin(ms)

export const identity = (value: unknown): unknown => value

/** A large result. */
export const bytes = (length: number): Uint8Array => new Uint8Array(length)

/** Prints lines of 100 characters. */
export function print(lines: number): void {
  process.stdout.write(`${'x'.repeat(99)}\n`.repeat(lines))
}

/** Throws an error with a message of `length` characters and a chain of `causes` causes. */
export function fail(length: number, causes: number): never {
  let error = new Error('x'.repeat(length))
  for (let depth = 0; depth < causes; depth++) error = new Error('y'.repeat(length), { cause: error })
  throw error
}

function spin(ms: number): void {
  for (const end = performance.now() + ms; performance.now() < end; );
}
