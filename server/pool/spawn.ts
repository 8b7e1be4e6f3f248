import { type ChildProcess, spawn } from 'node:child_process'
import type { Duplex, Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'

/** A new worker process: its frames, and what it prints past them. */
export interface WorkerProcess {
  readonly child: ChildProcess
  /** The parent's end of the socket whose other end is the child's file descriptor 3. */
  readonly frames: Duplex
  readonly stdout: Readable
  readonly stderr: Readable
}

const WORKER_MAIN = fileURLToPath(new URL('../worker/main.js', import.meta.url))

/**
 * Starts a worker; the only place that makes processes. The worker leads a process group of its own: a terminal's
 * Ctrl-C does not reach it, and killing it takes along what its functions have started.
 */
export function spawnWorker(): WorkerProcess {
  const child = spawn(process.execPath, [...inheritedFlags(), WORKER_MAIN], {
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
    detached: true,
    windowsHide: true,
  })
  return {
    child,
    frames: child.stdio[3] as Duplex,
    stdout: child.stdout as Readable,
    stderr: child.stderr as Readable,
  }
}

/** Kills a worker and what its functions have started. */
export function killWorker(child: ChildProcess): void {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
  try {
    process.kill(-child.pid, 'SIGKILL')
  } catch {
    // The group is gone, or the platform has none: the process itself is what is left to end.
    child.kill('SIGKILL')
  }
}

// A debugger's port belongs to one process, and a profile would be written once per worker.
const inheritedFlags = (): string[] => process.execArgv.filter((flag) => !/^--(inspect|cpu-prof|heap-prof)/.test(flag))
