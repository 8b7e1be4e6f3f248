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
 * The guard's program: it reads which worker has come and which has gone; when that ends, because the server has
 * ended, it kills those that are left. So a server that is killed leaves no worker behind, also none that is busy in
 * a loop and cannot see that its socket has closed.
 */
const GUARD = `
pids=' '
while read -r what pid; do
  case $what in
    come) pids="$pids$pid " ;;
    gone) pids="\${pids%% $pid *} \${pids#* $pid }" ;;
  esac
done
for pid in $pids; do kill -9 "-$pid"; done 2>/dev/null
`

/** Makes worker processes, the only place of a server that makes any, and sees to it that none outlives the server. */
export class Spawner {
  readonly #guard: ChildProcess | undefined

  constructor() {
    // Of its own session, as the workers: what ends the server's process group must not end its guard.
    if (process.platform !== 'win32') {
      this.#guard = spawn('/bin/sh', ['-c', GUARD], { stdio: ['pipe', 'ignore', 'ignore'], detached: true })
      this.#guard.on('error', () => {})
      this.#guard.stdin?.on('error', () => {})
      this.#guard.unref()
    }
  }

  /**
   * Starts a worker. It leads a process group of its own: a terminal's Ctrl-C does not reach it, and killing it takes
   * along what its functions have started.
   */
  spawn(): WorkerProcess {
    const child = spawn(process.execPath, [...inheritedFlags(), WORKER_MAIN], {
      stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
      detached: true,
      windowsHide: true,
    })
    if (child.pid !== undefined) {
      this.#guard?.stdin?.write(`come ${child.pid}\n`)
      child.once('exit', () => this.#guard?.stdin?.write(`gone ${child.pid}\n`))
    }
    return {
      child,
      frames: child.stdio[3] as Duplex,
      stdout: child.stdout as Readable,
      stderr: child.stderr as Readable,
    }
  }

  /** When all workers have ended: lets the guard go. */
  close(): void {
    this.#guard?.stdin?.end()
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
