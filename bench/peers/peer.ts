import { createInterface } from 'node:readline'

/** The figures that a peer measured for one row, by name, in the row's unit. */
export type Figures = Record<string, number>

/** Runs a row on a peer, with `n` calls or items. */
export type RunRow = (n: number) => Promise<Figures>

/**
 * The main loop of a peer, which is a process. A line of JSON on standard input asks for a row, a line of JSON on standard
 * output answers. The peer ends at the end of its input.
 */
export async function answer(rows: Record<string, RunRow>, close: () => unknown): Promise<void> {
  for await (const line of createInterface({ input: process.stdin })) {
    const { row, n } = JSON.parse(line)
    const run = rows[row]
    if (!run) throw new Error(`this peer cannot run the row ${row}`)
    process.stdout.write(`${JSON.stringify(await run(n))}\n`)
  }
  await close()
  process.exit(0)
}

/** Runs `body`, which does `n` calls. Returns the calls per second. */
export async function rate(n: number, body: () => Promise<unknown>): Promise<Figures> {
  const began = performance.now()
  await body()
  return { rate: n / ((performance.now() - began) / 1000) }
}

/** `n` calls, one after another. */
export async function sequence(n: number, call: (i: number) => Promise<unknown>): Promise<void> {
  for (let i = 0; i < n; i++) await call(i)
}

/** `n` calls, all at once. */
export const burst = (n: number, call: (i: number) => PromiseLike<unknown>): Promise<unknown[]> =>
  Promise.all(Array.from({ length: n }, (_, i) => call(i)))

/** `n` calls, `width` at a time. */
export async function inFlight(n: number, width: number, call: (i: number) => Promise<unknown>): Promise<void> {
  let next = 0
  const lane = async () => {
    while (next < n) await call(next++)
  }
  await Promise.all(Array.from({ length: width }, lane))
}

/** The median and the 99th percentile of the latencies of single calls, in milliseconds. */
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

/** The quantile of sorted numbers. */
export const at = (sorted: readonly number[], share: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN

export const MIB = 1024 * 1024
export const IN_FLIGHT = 4
/** The argument of functions.work. */
export const WORK_ROUNDS = 10_000_000

export const input = {
  integers: (n: number): number[] => Array.from({ length: n }, (_, i) => i),
  floats: (n: number): number[] => Array.from({ length: n }, (_, i) => i + 0.1),
  strings: (n: number): string[] => Array.from({ length: n }, (_, i) => `item ${i}`),
}
