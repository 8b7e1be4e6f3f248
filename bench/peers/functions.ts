/** The functions that every peer runs in its workers. pools.py has its own copies. */

export const noop = (value: unknown): unknown => value

export const echo = (bytes: Uint8Array): Uint8Array => bytes

/** Arithmetic. 10 million rounds take about 10 ms on one core of the machine of the published figures. All peers run the same code. */
export function work(rounds: number): number {
  let x = 1
  for (let i = 0; i < rounds; i++) x = (Math.imul(x, 1_664_525) + 1_013_904_223) | 0
  return x
}

const never = new Int32Array(new SharedArrayBuffer(4))

/** Keeps the worker for this time without using its CPU. */
export function sleep(ms: number): void {
  Atomics.wait(never, 0, 0, ms)
}
