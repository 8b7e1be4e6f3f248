import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

/** CPU time in microseconds: of a peer's own process, of its servers, of their workers. */
export interface CpuTimes {
  readonly caller: number
  readonly server: number
  readonly workers: number
}

/**
 * The CPU time, user and system, that a process and its descendants have used. A descendant is a server if it has children
 * or its first argument is `server`; all others are workers. Undefined on a system without /proc.
 */
export function cpuTimes(root: number): CpuTimes | undefined {
  const children = childrenByParent()
  if (!children) return undefined
  const times = { caller: cpuOf(root), server: 0, workers: 0 }
  const add = (parent: number): void => {
    for (const pid of children.get(parent) ?? []) {
      times[children.has(pid) || isServer(pid) ? 'server' : 'workers'] += cpuOf(pid)
      add(pid)
    }
  }
  add(root)
  return times
}

/** Resolves when a process and its descendants have finished to start: they use less than 2 % of a core. */
export async function untilIdle(root: number): Promise<void> {
  const total = () => Object.values(cpuTimes(root) ?? {}).reduce((sum, time) => sum + time, 0)
  for (let tries = 0; tries < 100; tries++) {
    const before = total()
    await sleep(250)
    if (total() - before < 5_000) return
  }
}

function childrenByParent(): Map<number, number[]> | undefined {
  const children = new Map<number, number[]>()
  for (const pid of numbersIn('/proc')) {
    // The name, in parentheses, may contain spaces.
    const parent = Number(/\) \S (\d+)/.exec(read(`/proc/${pid}/stat`))?.[1])
    children.set(parent, [...(children.get(parent) ?? []), pid])
  }
  return children.size > 0 ? children : undefined
}

/** The first field of `schedstat` is the time of one thread, in nanoseconds. `stat` counts in steps of 10 ms. */
const cpuOf = (pid: number): number =>
  numbersIn(`/proc/${pid}/task`).reduce(
    (sum, thread) => sum + Number.parseInt(read(`/proc/${pid}/task/${thread}/schedstat`) || '0', 10) / 1000,
    0,
  )

const isServer = (pid: number): boolean => read(`/proc/${pid}/cmdline`).split('\0')[2] === 'server'

/** Resident memory in MiB. */
export const rssOf = (pid: number): number => Number(/VmRSS:\s+(\d+)/.exec(read(`/proc/${pid}/status`))?.[1]) / 1024

/** A process or thread may end at any time; then it has no files. */
function read(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

function numbersIn(path: string): number[] {
  try {
    return readdirSync(path).map(Number).filter(Number.isInteger)
  } catch {
    return []
  }
}
