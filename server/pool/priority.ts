import { readdirSync, writeFileSync } from 'node:fs'
import { getPriority, setPriority } from 'node:os'
import { NICEST } from '../../wire/limits.js'

/** Whoever has no privileges may weigh a session ten times a second, and everybody on the machine shares that. */
const AGAIN_MS = 100
const TRIES = 100

/**
 * Has a process have the CPU where the server does not want it: its niceness is the server's and so much more.
 * @param isAlive while it is, the number is nobody else's.
 */
export function lowerPriority(pid: number, by: number, isAlive: () => boolean): void {
  if (by === 0) return
  const nice = Math.min(NICEST, getPriority() + by)
  // What makes the others comes first: those that it makes from now on are as nice.
  weighThread(pid, nice)
  for (const thread of threadsOf(pid)) weighThread(thread, nice)
  weighSession(pid, nice, isAlive, TRIES)
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

/**
 * Linux may weigh sessions against each other, whatever the niceness of their processes (sched(7), autogroup); a worker leads
 * one. Nothing to be done where it does not.
 */
function weighSession(pid: number, nice: number, isAlive: () => boolean, tries: number): void {
  try {
    writeFileSync(`/proc/${pid}/autogroup`, String(nice))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EAGAIN' || tries === 0) return
    const again = () => isAlive() && weighSession(pid, nice, isAlive, tries - 1)
    setTimeout(again, AGAIN_MS * (1 + Math.random())).unref()
  }
}
