// Functions that need no package. The container image serves them by default.

import { setTimeout as sleep } from 'node:timers/promises'
import { currentTask } from 'farpool/worker'

/** The n-th Fibonacci number, by naive recursion. */
export const fib = (n: number): number => (n < 2 ? n : fib(n - 1) + fib(n - 2))

/** The sum of two numbers, or of two texts. */
export const add = (a: number, b: number): number => a + b

/** Whether n is a prime number, by trial division. */
export function isPrime(n: number): boolean {
  for (let divisor = 2; divisor * divisor <= n; divisor++) if (n % divisor === 0) return false
  return n > 1
}

/** Waits `ms` milliseconds, or until the call is cancelled. Returns the worker's process id. */
export async function wait(ms: number): Promise<number> {
  await sleep(ms, undefined, { signal: currentTask().signal })
  return process.pid
}
