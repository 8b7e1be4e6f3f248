import { type ChildProcess, spawn } from 'node:child_process'
import { statSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { GUARD, Guard } from './orphan-reaper.js'
import { CrashReport, KernelKills } from './out-of-memory.js'
import { lowerPriority } from './priority.js'

/** A new worker process: its frames, and what it prints past them. */
export interface WorkerProcess {
  readonly child: ChildProcess
  /**
   * The parent's ends of the sockets whose other ends are the child's file descriptors 3, to which the server writes, and 4,
   * from which it reads. Two, because a write to a worker that has died closes the socket, with what it had still to say.
   */
  readonly orders: Writable
  readonly frames: Readable
  readonly stdout: Readable
  readonly stderr: Readable
  /** From now on the server has the CPU where both want it. */
  yieldCpu(): void
  /** Whether it died for want of memory. To be asked once, when it has ended. */
  oom(signal: string | undefined): 'heap' | 'kernel' | undefined
}

/** A worker is to take one CPU: with V8's four helpers, one that collects much garbage takes those of the other workers. */
const ONE_CPU = process.env['NODE_OPTIONS']?.includes('--v8-pool-size') ? [] : ['--v8-pool-size=1']

const WORKER_MAIN = fileURLToPath(new URL('../../worker/worker-main.js', import.meta.url))

/** Makes worker processes, the only place of a server that makes any, and sees to it that none outlives the server. */
export class Spawner {
  /** Of its own session, as the workers: what ends the server's process group must not end its guard. */
  readonly #guard = process.platform === 'win32' ? undefined : new Guard(runGuard)
  #spawned = 0
  readonly #kernelKills = new KernelKills()

  /** @param flags of Node, for every worker. @param nice by how much they are nicer than the server. */
  constructor(
    private readonly flags: readonly string[] = [],
    private readonly nice = 0,
  ) {}

  /**
   * Starts a worker. It leads a process group of its own: a terminal's Ctrl-C does not reach it, and killing it takes
   * along what its functions have started. Undefined where the system has no room for one (file descriptors, memory):
   * then `failed` is called with the reason, on a later turn.
   */
  spawn(failed: (error: Error) => void): WorkerProcess | undefined {
    const report = new CrashReport(String(++this.#spawned))
    const giveUp = (error: Error) => {
      report.close(undefined)
      failed(error)
    }
    let child: ChildProcess
    try {
      child = spawn(process.execPath, [...ONE_CPU, ...inheritedFlags(), ...this.flags, ...report.flags, WORKER_MAIN], {
        stdio: ['ignore', 'pipe', 'pipe', 'pipe', 'pipe', report.fd],
        detached: true,
        windowsHide: true,
      })
    } catch (error) {
      setImmediate(giveUp, error as Error)
      return undefined
    }
    const { pid } = child
    if (pid === undefined) {
      // Without file descriptors there are no streams either.
      for (const stream of (child.stdio as ChildProcess['stdio'] | undefined) ?? []) stream?.destroy()
      child.once('error', giveUp)
      return undefined
    }
    this.#guard?.come(pid)
    child.once('exit', () => {
      // However it ended. The number is nobody else's while there is anything of the group; the guard knows it until then.
      killGroup(pid)
      this.#guard?.gone(pid)
    })
    return {
      child,
      orders: child.stdio[3] as Writable,
      frames: child.stdio[4] as Readable,
      stdout: child.stdout as Readable,
      stderr: child.stderr as Readable,
      yieldCpu: () => lowerPriority(pid, this.nice, () => child.exitCode === null && child.signalCode === null),
      oom: (signal) => (report.close(signal) ? 'heap' : this.#killedByKernel(signal)),
    }
  }

  /** Has the file of the server's socket removed when the server is killed. */
  listens(path: string, ownsFolder: boolean): void {
    // A name with a line break would be read as something else.
    if (path.includes('\n')) return
    const listen = `listen ${statSync(path).ino} ${resolve(path)}`
    this.#guard?.listens(ownsFolder ? [listen, `folder ${dirname(resolve(path))}`] : [listen])
  }

  /** The server has removed the file itself, or is about to. */
  unlistens(): void {
    this.#guard?.unlistens()
  }

  #killedByKernel(signal: string | undefined): 'kernel' | undefined {
    return signal === 'SIGKILL' && this.#kernelKills.includes() ? 'kernel' : undefined
  }

  /** When all workers have ended: lets the guard go. */
  close(): void {
    this.#guard?.close()
  }
}

/** Undefined where the system has no room for it. */
function runGuard(ended: () => void): Writable | undefined {
  try {
    const guard = spawn('/bin/sh', ['-c', GUARD], { stdio: ['pipe', 'ignore', 'ignore'], detached: true })
    guard.once('exit', ended)
    guard.on('error', () => guard.pid === undefined && ended())
    guard.stdin?.on('error', () => {})
    guard.unref()
    return guard.stdin ?? undefined
  } catch {
    setImmediate(ended)
    return undefined
  }
}

/** Kills a worker and what its functions have started. */
export function killWorker(child: ChildProcess): void {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
  // The group is gone, or the platform has none: the process itself is what is left to end.
  if (!killGroup(child.pid)) child.kill('SIGKILL')
}

/** False where there is no such group. */
function killGroup(leader: number): boolean {
  try {
    return process.kill(-leader, 'SIGKILL')
  } catch {
    return false
  }
}

// A debugger's port belongs to one process, and a profile would be written once per worker.
const inheritedFlags = (): string[] =>
  process.execArgv.filter((flag) => !/^--(inspect|cpu-prof|heap-prof|report)/.test(flag))
