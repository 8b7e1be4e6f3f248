import { readdirSync, writeFileSync } from 'node:fs'
import { getPriority, setPriority } from 'node:os'

/** As nice as a process can be. */
export const NICEST = 19

/** Whoever has no privileges may weigh a session ten times a second, and everybody on the machine shares that. */
const AGAIN_MS = 100

/**
 * Has a process have the CPU where the server does not want it: its niceness is the server's and so much more.
 * @param isAlive while it is, the number is nobody else's.
 */
export function lowerPriority(pid: number, by: number, isAlive: () => boolean): void {
  if (by === 0 || !isAlive()) return
  const nice = Math.min(NICEST, getPriority() + by)
  // What makes the others comes first: those that it makes from now on are as nice.
  weighThread(pid, nice)
  for (const thread of threadsOf(pid)) weighThread(thread, nice)
  unweighed.push({ pid, nice, isAlive })
  if (unweighed.length === 1) weighSessions()
}

/** None where niceness is a whole process's. */
function threadsOf(pid: number): readonly number[] {
  try {
    return readdirSync(`/proc/${pid}/task`).map(Number)
  } catch {
    return []
  }
}

function weighThread(thread: number, nice: number): void {
  try {
    setPriority(thread, nice)
  } catch {
    // It has ended already.
  }
}

/** Sessions that are still to be weighed, one after another. */
const unweighed: { readonly pid: number; readonly nice: number; readonly isAlive: () => boolean }[] = []

/**
 * Linux may weigh sessions against each other, whatever the niceness of their processes (sched(7), autogroup); a worker leads
 * one. Nothing to be done where it does not.
 */
function weighSessions(): void {
  for (let next = unweighed[0]; next; next = unweighed[0]) {
    if (next.isAlive() && !isWeighed(next.pid, next.nice)) return void setTimeout(weighSessions, AGAIN_MS).unref()
    unweighed.shift()
  }
}

/** False where it has to be tried again. */
function isWeighed(pid: number, nice: number): boolean {
  try {
    writeFileSync(`/proc/${pid}/autogroup`, String(nice))
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'EAGAIN'
  }
}
