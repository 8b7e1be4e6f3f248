import type { spawn } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

/** A process that this one has started. */
type Started = ReturnType<typeof spawn>

/** An environment variable that all processes of a run inherit. It identifies them. */
export const MARK = 'CHAOS_STAGE'

const CHECK_EVERY_MS = 20

const read = (path: string): string => {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    // The process has just ended, or belongs to another user.
    return ''
  }
}

/** The running processes with `mark` (NAME=value) in their environment. A zombie has no environment. */
export function marked(mark: string): { pid: number; command: string }[] {
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => pid > 0 && pid !== process.pid && read(`/proc/${pid}/environ`).split('\0').includes(mark))
    .map((pid) => ({ pid, command: read(`/proc/${pid}/cmdline`).split('\0').join(' ').trim().slice(0, 120) }))
}

/** Waits at most `ms` milliseconds for the end of all marked processes; returns the rest. It polls: only a parent gets an event. */
export async function leftAfter(mark: string, ms: number): Promise<string[]> {
  const end = performance.now() + ms
  for (;;) {
    const left = marked(mark)
    if (left.length === 0 || performance.now() > end)
      return left.map(({ pid, command }) => `process ${pid}: ${command}`)
    await sleep(CHECK_EVERY_MS)
  }
}

export const residentKiB = (pid: number): number =>
  Number(/^VmRSS:\s+(\d+)/m.exec(read(`/proc/${pid}/status`))?.[1] ?? 0)

/** The CPU time of a process so far, in milliseconds, with a resolution of 10. */
export function cpuMs(pid: number): number {
  // The times are the 12th and 13th word after the name, which stands in parentheses and may hold any text.
  const words = read(`/proc/${pid}/stat`).split(') ').at(-1)?.split(' ') ?? []
  return 10 * (Number(words[11] ?? 0) + Number(words[12] ?? 0))
}

/** The running children of a process. */
export const childrenOf = (pid: number): number[] =>
  read(`/proc/${pid}/task/${pid}/children`)
    .split(' ')
    .map(Number)
    .filter((child) => child > 0)

export const isRunning = (child: Started): boolean => child.exitCode === null && child.signalCode === null

/** True if the process ends within `ms` milliseconds. */
export async function endsWithin(child: Started, ms: number): Promise<boolean> {
  if (!isRunning(child)) return true
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(false), ms)
    child.once('exit', () => {
      clearTimeout(timer)
      resolve(true)
    })
  })
}

/** Signals a process if it belongs to this run: the pid of a process that has ended may have been reused. */
export function signal(mark: string, pid: number, name: NodeJS.Signals): boolean {
  try {
    return read(`/proc/${pid}/environ`).split('\0').includes(mark) && process.kill(pid, name)
  } catch {
    return false
  }
}
