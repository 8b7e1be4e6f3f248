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
    const run = row === 'ready' ? async () => ({}) : rows[row]
    if (!run) throw new Error(`this peer cannot run the row ${row}`)
    process.stdout.write(`${JSON.stringify(await run(n))}\n`)
  }
  await close()
  process.exit(0)
}

/** A pool of workers, as a peer that has all rows of single calls. */
export interface PoolPeer<P> {
  open(processes: number): P | Promise<P>
  /** Calls one of the functions of functions.ts. */
  call(pool: P, name: string, value: unknown): PromiseLike<unknown>
  close(pool: P): unknown
}

/** The main loop of a pool of workers. The last argument of the process is the number of workers. */
export async function answerWithPool<P>({ open, call, close }: PoolPeer<P>): Promise<void> {
  const processes = Number(process.argv.at(-1)) || 2
  const pool = await open(processes)
  const rows = callRows((name, value) => call(pool, name, value), processes)
  const opening = async () => {
    const began = performance.now()
    const own = await open(2)
    await call(own, 'noop', 0)
    const ms = performance.now() - began
    await close(own)
    return { ms }
  }
  await answer({ ...rows, open: opening }, () => close(pool))
}

/** The rows that need only a way to call one function with one value. */
export const callRows = (
  call: (name: string, value: unknown) => PromiseLike<unknown>,
  processes: number,
): Record<string, RunRow> => {
  const sleeps = async (n: number, ms: number) => {
    const { rate: perSecond = 0 } = await rate(n, () => burst(n, () => call('sleep', ms)))
    return { rate: perSecond, ideal: (perSecond * ms) / 1000 / processes }
  }
  return {
    sequence: (n) => latency(n, (i) => call('noop', i)),
    burst: (n) => rate(n, () => burst(n, (i) => call('noop', i))),
    echo: (n) => {
      const bytes = new Uint8Array(MIB).fill(7)
      return rate(n, () => inFlight(n, IN_FLIGHT, () => call('echo', bytes)))
    },
    work: (n) => rate(n, () => burst(n, () => call('work', WORK_ROUNDS))),
    'sleep-1': (n) => sleeps(n, 1),
    'sleep-10': (n) => sleeps(n, 10),
    seconds: (width) => seconds(width, () => call('sleep', 1)),
  }
}

/** Runs `body`, which does `n` calls. Returns the calls per second. */
export async function rate(n: number, body: () => Promise<unknown>): Promise<Figures> {
  const began = performance.now()
  await body()
  return { rate: n / ((performance.now() - began) / 1000) }
}

/** `n` calls, all at once. */
export const burst = (n: number, call: (i: number) => PromiseLike<unknown>): Promise<unknown[]> =>
  Promise.all(Array.from({ length: n }, (_, i) => call(i)))

/** `n` calls, `width` at a time. */
export async function inFlight(n: number, width: number, call: (i: number) => PromiseLike<unknown>): Promise<void> {
  let next = 0
  const lane = async () => {
    while (next < n) await call(next++)
  }
  await Promise.all(Array.from({ length: width }, lane))
}

/** `n` calls, one after another: the calls per second, and the mean and the quantiles of their times in microseconds. */
export async function latency(n: number, call: (i: number) => PromiseLike<unknown>): Promise<Figures> {
  const times: number[] = []
  const first = performance.now()
  let began = first
  for (let i = 0; i < n; i++) {
    await call(i)
    const ended = performance.now()
    times.push((ended - began) * 1000)
    began = ended
  }
  const mean = ((began - first) * 1000) / n
  times.sort((a, b) => a - b)
  return { rate: 1e6 / mean, mean, p50: at(times, 0.5), p99: at(times, 0.99) }
}

/** The number of calls that end in each of the first three seconds, with `width` calls in flight. */
async function seconds(width: number, call: () => PromiseLike<unknown>): Promise<Figures> {
  const counts = [0, 0, 0]
  const began = performance.now()
  const lane = async () => {
    for (;;) {
      await call()
      const second = Math.floor((performance.now() - began) / 1000)
      if (second >= counts.length) return
      counts[second] = (counts[second] ?? 0) + 1
    }
  }
  await Promise.all(Array.from({ length: width }, lane))
  return Object.fromEntries(counts.map((count, second) => [`second ${second + 1}`, count]))
}

/** The quantile of sorted numbers. */
const at = (sorted: readonly number[], share: number): number =>
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
