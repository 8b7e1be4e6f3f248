import { cpuUsage } from 'node:process'

/** What every peer runs in its workers; cpython.py has the same. */

export const noop = (value: unknown): unknown => value

/** Comes back as it went. */
export const echo = (bytes: Uint8Array): Uint8Array => bytes

/** About 10 ms of arithmetic on one core of the machine that this was written on; the peers do exactly as much. */
export function work(rounds: number): number {
  let x = 1
  for (let i = 0; i < rounds; i++) x = (Math.imul(x, 1_664_525) + 1_013_904_223) | 0
  return x
}

export const rss = (): number => process.memoryUsage.rss()

export const cpu = (): number => cpuUsage().user + cpuUsage().system
