import { readdirSync, writeFileSync } from 'node:fs'
import { getPriority, setPriority } from 'node:os'

/** The largest niceness of a process. */
export const MAX_NICENESS = 19

/** Linux lets an unprivileged process set a session's weight ten times a second, for all such processes together. */
const RETRY_WEIGHT_MS = 100

/**
 * Gives a process a lower CPU priority than this one: this process's niceness plus `by`.
 * @param isAlive must be true as long as the pid cannot belong to another process.
 */
export function lowerPriority(pid: number, by: number, isAlive: () => boolean): void {
  if (by === 0 || !isAlive()) return
  const nice = Math.min(MAX_NICENESS, getPriority() + by)
  // The main thread first: threads that it makes from now on inherit its niceness.
  setNice(pid, nice)
  for (const thread of threadsOf(pid)) setNice(thread, nice)
  waiting.push({ pid, nice, isAlive })
  if (waiting.length === 1) weighSessions()
}

/** Empty on systems where niceness belongs to the whole process. */
function threadsOf(pid: number): readonly number[] {
  try {
    return readdirSync(`/proc/${pid}/task`).map(Number)
  } catch {
    return []
  }
}

function setNice(thread: number, nice: number): void {
  try {
    setPriority(thread, nice)
  } catch {
    // It has ended already.
  }
}

/** Sessions whose weight is still to be set, one after another. */
const waiting: { readonly pid: number; readonly nice: number; readonly isAlive: () => boolean }[] = []

/**
 * Linux may weigh whole sessions against each other, whatever the niceness of their processes (sched(7), autogroup). A
 * worker leads a session, so that weight must be lowered too. On other systems there is nothing to do.
 */
function weighSessions(): void {
  for (let next = waiting[0]; next; next = waiting[0]) {
    if (next.isAlive() && !setWeight(next.pid, next.nice))
      return void setTimeout(weighSessions, RETRY_WEIGHT_MS).unref()
    waiting.shift()
  }
}

/** Returns false if it must be tried again. */
function setWeight(pid: number, nice: number): boolean {
  try {
    writeFileSync(`/proc/${pid}/autogroup`, String(nice))
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'EAGAIN'
  }
}
