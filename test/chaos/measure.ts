import { spawn } from 'node:child_process'
import type { Duplex } from 'node:stream'
import { decodeFromWorker, FrameReader, writeToWorker } from '../../wire/framing/frames.js'
import { ProtoWriter } from '../../wire/framing/protobuf.js'
import type { ExecutionEvent, Fault } from './history.js'
import { now } from './item.js'
import { residentKiB } from './processes.js'
import { FUNCTIONS, type ServerUnderTest } from './server.js'

/** Samples of the server's resident memory. */
export interface Memory {
  readonly samples: { at: number; pid: number; kib: number }[]
  stop(): void
}

export function watchMemory(server: ServerUnderTest, everyMs: number): Memory {
  const samples: Memory['samples'] = []
  const timer = setInterval(() => {
    const { pid } = server
    const kib = residentKiB(pid)
    if (kib > 0) samples.push({ at: now(), pid, kib })
  }, everyMs)
  return { samples, stop: () => clearInterval(timer) }
}

/** The growth of the server process that lived longest: a least-squares line through the second half of its samples. */
export function slope(samples: Memory['samples']): { kibPerMinute: number; fromKib: number; toKib: number } {
  const lives = [...new Set(samples.map(({ pid }) => pid))].map((pid) => samples.filter((sample) => sample.pid === pid))
  const longest = lives.sort((a, b) => b.length - a.length)[0] ?? []
  const settled = longest.slice(Math.floor(longest.length / 2))
  const mean = (of: (sample: Memory['samples'][number]) => number) =>
    settled.reduce((sum, sample) => sum + of(sample), 0) / settled.length
  const at = mean((sample) => sample.at)
  const kib = mean((sample) => sample.kib)
  const covariance = settled.reduce((sum, sample) => sum + (sample.at - at) * (sample.kib - kib), 0)
  const variance = settled.reduce((sum, sample) => sum + (sample.at - at) ** 2, 0)
  return {
    kibPerMinute: variance === 0 ? 0 : (covariance / variance) * 60_000,
    fromKib: longest[0]?.kib ?? 0,
    toKib: longest.at(-1)?.kib ?? 0,
  }
}

/** For each kill of a worker of the shared pool: the milliseconds until its replacement finished its first task. */
export function replacements(faults: readonly Fault[], executions: Iterable<ExecutionEvent>): number[] {
  const shared = new Set(faults.filter(({ kind }) => kind === 'seen').map(({ target }) => target))
  const workers: { began: number; result: number }[] = []
  /** The latest worker with each pid: in a long run the kernel reuses pids. */
  const last = new Map<number, (typeof workers)[number]>()
  for (const { kind, pid, at } of executions) {
    if (!shared.has(pid)) continue
    const known = kind === 'begin' ? undefined : last.get(pid)
    const worker = known ?? { began: at, result: Number.POSITIVE_INFINITY }
    if (!known) workers.push(worker)
    last.set(pid, worker)
    if (kind === 'finish') worker.result = Math.min(worker.result, at)
  }
  const news = workers.sort((a, b) => a.began - b.began)
  const times: number[] = []
  for (const { kind, at, target } of faults) {
    if (kind !== 'kill' || !shared.has(target)) continue
    const next = news.findIndex(({ began }) => began > at)
    if (next < 0) break
    const [worker] = news.splice(0, next + 1).slice(-1)
    // A replacement that was killed before its first result does not count.
    if (worker && worker.result < Number.POSITIVE_INFINITY) times.push(worker.result - at)
  }
  return times
}

export const median = (numbers: readonly number[]): number =>
  [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? Number.NaN

/** Starts a worker without a server. Resolves with the milliseconds from its spawn to its `ready` message. */
export async function startBareWorker(build: string, env: NodeJS.ProcessEnv): Promise<number> {
  const writer = new ProtoWriter()
  const value = {
    modules: [FUNCTIONS],
    initializer: '',
    initargs: [],
    stacks: false,
    maxRssBytes: 0,
    maxResultBytes: 0,
  }
  writeToWorker(writer, { $case: 'init', value })
  const from = performance.now()
  const child = spawn(process.execPath, [`${build}/worker/worker-main.js`], {
    stdio: ['ignore', 'ignore', 'inherit', 'pipe', 'pipe'],
    env,
  })
  const sockets = [child.stdio[3] as Duplex, child.stdio[4] as Duplex]
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  await new Promise<void>((resolve, reject) => {
    const reader = new FrameReader((frame: Uint8Array) => {
      if (decodeFromWorker(frame)?.$case === 'ready') resolve()
    })
    for (const socket of sockets) {
      socket.on('data', (bytes: Buffer) => reader.push(bytes))
      socket.on('error', () => {})
    }
    child.once('exit', () => reject(new Error('a bare worker ended before it was ready')))
    for (const piece of writer.takePieces().pieces) sockets[0]?.write(piece)
  })
  const took = performance.now() - from
  for (const socket of sockets) socket.destroy()
  await exited
  return took
}
