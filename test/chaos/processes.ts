import type { ChildProcess } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

/** In the environment of every process of a run, however deep: who has it belongs to the run. */
export const MARK = 'FARPOOL_CHAOS'

const LOOK_MS = 20

const read = (path: string): string => {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    // It has just ended, or is another user's.
    return ''
  }
}

/** The processes in whose environment there is this; the dead that nobody has buried have none. */
export function marked(mark: string): { pid: number; command: string }[] {
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => pid > 0 && pid !== process.pid && read(`/proc/${pid}/environ`).split('\0').includes(mark))
    .map((pid) => ({ pid, command: read(`/proc/${pid}/cmdline`).split('\0').join(' ').trim().slice(0, 120) }))
}

/** Those that are still there after so long. There is no event for the end of somebody else's process. */
export async function leftAfter(mark: string, ms: number): Promise<string[]> {
  const end = performance.now() + ms
  for (;;) {
    const left = marked(mark)
    if (left.length === 0 || performance.now() > end)
      return left.map(({ pid, command }) => `process ${pid}: ${command}`)
    await sleep(LOOK_MS)
  }
}

export const residentKiB = (pid: number): number =>
  Number(/^VmRSS:\s+(\d+)/m.exec(read(`/proc/${pid}/status`))?.[1] ?? 0)

/** What a process has had of CPUs in its life, in milliseconds; to a hundredth of a second. */
export function cpuMs(pid: number): number {
  // Behind the name in parentheses, which may hold anything, the times are the 12th and the 13th word.
  const words = read(`/proc/${pid}/stat`).split(') ').at(-1)?.split(' ') ?? []
  return 10 * (Number(words[11] ?? 0) + Number(words[12] ?? 0))
}

/** The processes that a process has started and that are there. */
export const childrenOf = (pid: number): number[] =>
  read(`/proc/${pid}/task/${pid}/children`)
    .split(' ')
    .map(Number)
    .filter((child) => child > 0)

export const isRunning = (child: ChildProcess): boolean => child.exitCode === null && child.signalCode === null

/** Whether it ends in time. */
export async function endsWithin(child: ChildProcess, ms: number): Promise<boolean> {
  if (!isRunning(child)) return true
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(false), ms)
    child.once('exit', () => {
      clearTimeout(timer)
      resolve(true)
    })
  })
}

/** A signal to a process of this run, which may be gone already: its number may be another's by now. */
export function signal(mark: string, pid: number, name: NodeJS.Signals): boolean {
  try {
    return read(`/proc/${pid}/environ`).split('\0').includes(mark) && process.kill(pid, name)
  } catch {
    return false
  }
}
