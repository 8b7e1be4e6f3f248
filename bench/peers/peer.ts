import { createInterface } from 'node:readline'

/** What a peer measured of one row: by name, in the row's unit. */
export type Figures = Record<string, number>

/** A peer's way to do a row with `n` calls or items. */
export type Way = (n: number) => Promise<Figures>

/** A peer is a program of its own: a line of JSON asks for a row, a line of JSON answers; it ends with its input. */
export async function answer(ways: Record<string, Way>, close: () => unknown): Promise<void> {
  for await (const line of createInterface({ input: process.stdin })) {
    const { row, n } = JSON.parse(line)
    const way = ways[row]
    if (!way) throw new Error(`this peer has no way to do ${row}`)
    process.stdout.write(`${JSON.stringify(await way(n))}\n`)
  }
  await close()
  process.exit(0)
}

/** How many of `n` in a second. */
export async function rate(n: number, body: () => Promise<unknown>): Promise<Figures> {
  const began = performance.now()
  await body()
  return { rate: n / ((performance.now() - began) / 1000) }
}

/** One after another. */
export async function sequence(n: number, call: (i: number) => Promise<unknown>): Promise<void> {
  for (let i = 0; i < n; i++) await call(i)
}

/** All at once. */
export const burst = (n: number, call: (i: number) => PromiseLike<unknown>): Promise<unknown[]> =>
  Promise.all(Array.from({ length: n }, (_, i) => call(i)))

/** So many at a time. */
export async function inFlight(n: number, width: number, call: (i: number) => Promise<unknown>): Promise<void> {
  let next = 0
  const lane = async () => {
    while (next < n) await call(next++)
  }
  await Promise.all(Array.from({ length: width }, lane))
}

/** Half and 99th hundredth of the latencies of calls that come alone, in milliseconds. */
export async function latency(n: number, call: (i: number) => Promise<unknown>): Promise<Figures> {
  const times: number[] = []
  for (let i = 0; i < n; i++) {
    const began = performance.now()
    await call(i)
    times.push(performance.now() - began)
  }
  times.sort((a, b) => a - b)
  return { p50: at(times, 0.5), p99: at(times, 0.99) }
}

export const at = (sorted: readonly number[], share: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN

export const MIB = 1024 * 1024
export const IN_FLIGHT = 4
/** Of functions.work. */
export const WORK_ROUNDS = 10_000_000

export const input = {
  integers: (n: number): number[] => Array.from({ length: n }, (_, i) => i),
  floats: (n: number): number[] => Array.from({ length: n }, (_, i) => i + 0.1),
  strings: (n: number): string[] => Array.from({ length: n }, (_, i) => `item ${i}`),
}
