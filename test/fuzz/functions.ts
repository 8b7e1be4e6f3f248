import { currentTask } from 'farpool/worker'

/** The functions for mutated calls. Each ends soon and stops when its signal aborts. */

/** A mutated map may have hundreds of items, and must be answered in 30 s. */
const LONGEST_MS = 5

export const identity = (value: unknown): unknown => value
export const add = (a: number, b = 0): number => a + b
export const collect = (...args: unknown[]): unknown[] => args

export const fail = (what: unknown): never => {
  throw what instanceof Object ? what : new RangeError(String(what))
}

/** Waits for `ms` milliseconds, at most LONGEST_MS, or until the call is cancelled. */
export const nap = (ms: unknown): Promise<void> => {
  const { signal } = currentTask()
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, Math.min(LONGEST_MS, Number(ms) || 0))
    signal.addEventListener('abort', () => {
      clearTimeout(timer)
      resolve()
    })
  })
}
