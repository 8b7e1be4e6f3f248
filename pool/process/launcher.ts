import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, statSync } from 'node:fs'
import { Socket } from 'node:net'
import { resolve } from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { threadId } from 'node:worker_threads'
import { packageFile } from '../../wire/package.js'
import { openNamelessFile } from './nameless-file.js'
import { OrphanReaper, REAPER_PROGRAM } from './orphan-reaper.js'
import { CrashReport, KernelOomKills } from './out-of-memory.js'
import { lowerPriority } from './priority.js'

/** How a worker process ended, as the operating system and Node's crash report tell it. */
export interface ProcessExit {
  readonly exitCode: number | undefined
  readonly signal: string | undefined
  /** It ran out of memory: of its V8 heap, or of the machine's or container's memory. */
  readonly oom: 'heap' | 'kernel' | undefined
}

/**
 * A worker process, as its WorkerHandle sees it. Launchers make it; a test can implement it with in-memory streams.
 * Commands and reports are the frames of proto/farpool/worker/v1/worker.proto. They travel in two separate sockets,
 * because a write to a worker that has just died closes its socket, and with it any reports that were not read yet.
 */
export interface WorkerProcess {
  readonly pid: number
  /** Takes commands. */
  readonly input: Writable
  /** Yields reports; closes when the worker has closed its end. */
  readonly output: Readable
  /** Text that the worker printed past its reports: native code, a crash report, a flood of text. */
  readonly stdout: Readable
  readonly stderr: Readable
  /** A file for large frames, which the process has too (wire/framing/shared-file.ts); undefined if there is none. */
  readonly sharedFile: number | undefined
  /** Resolves once, when the process is gone. Never rejects. */
  readonly exited: Promise<ProcessExit>
  /** Called once, after the last report: closes the shared file. */
  release(): void
  /** Kills the process, and every process that its functions have started. */
  kill(): void
  /** From now on, this process gives the caller's process precedence wherever both want one CPU. */
  lowerPriority(): void
}

/**
 * Starts worker processes for one or more pools. The pool calls `launch`; the program that made the launcher calls
 * `close` at the end. A launcher knows how a worker of its runtime is started. It does not know what the worker runs:
 * modules and options go to the worker in its first command.
 */
export interface Launcher {
  /**
   * Starts a worker. Returns undefined if the system has no room for a process (file descriptors, memory); then `failed`
   * is called with the reason, in a later turn of the event loop.
   */
  launch(failed: (error: Error) => void): WorkerProcess | undefined
}

/** What a worker does not simply inherit from this process. */
export interface WorkerSurroundings {
  /** Its environment. Default: that of this process. */
  readonly env?: NodeJS.ProcessEnv
  /** The user and the group that it runs as, without further groups; only root can set them. Default: those of this process. */
  readonly uid?: number | undefined
  readonly gid?: number | undefined
}

/** The command line of a worker of some runtime. */
export interface WorkerCommand {
  readonly file: string
  readonly args: readonly string[]
}

/** One V8 helper thread, not four: with four, a worker that makes much garbage takes the other workers' CPUs. */
const ONE_HELPER_THREAD = process.env['NODE_OPTIONS']?.includes('--v8-pool-size') ? [] : ['--v8-pool-size=1']

/**
 * Flags of Node that a worker does not inherit: those that say what this process runs (`--eval`, `--test`, `--watch`), a
 * debugger's port, which only one process can have, and profiles, which are files of one process.
 */
const OWN_FLAGS =
  /^(-[peic]+|--(eval|print|interactive|check|input-type|test|watch|inspect|cpu-prof|heap-prof|report)(?![a-z]).*)$/

/** A flag's value may be an argument of its own. */
export function inheritedFlags(flags: readonly string[]): string[] {
  let isOwn = false
  return flags.filter((flag, at) => {
    const isValue = at > 0 && (!flag.startsWith('-') || /^(-[pe]+|--(eval|print))$/.test(flags[at - 1] ?? ''))
    if (!isValue) isOwn = OWN_FLAGS.test(flag)
    return !isOwn
  })
}

/** A worker that runs JavaScript modules in this version of Node. */
const nodeCommand = (
  program: string,
  flags: readonly string[],
  report: CrashReport,
  hasSharedFile: boolean,
): WorkerCommand => ({
  file: process.execPath,
  args: [
    ...ONE_HELPER_THREAD,
    ...inheritedFlags(process.execArgv),
    ...flags,
    ...report.flags,
    program,
    ...(hasSharedFile ? ['shared-file'] : []),
  ],
})

/**
 * Starts Node workers as child processes: the only place that makes processes. Each worker leads a process group of its
 * own, so a terminal's Ctrl-C does not reach it, and killing the group also ends what its functions have started.
 */
export class NodeLauncher implements Launcher {
  readonly #program = fileURLToPath(packageFile('dist/worker/worker-main.js'))
  readonly #flags: readonly string[]
  #isClosed = false

  /**
   * @param maxHeapMb the largest JavaScript heap of a worker, in MiB; undefined for Node's own limit.
   * @param niceness added to this process's own, for `lowerPriority`; 0 to 19.
   * @throws Failure BAD_REQUEST inside of a bundle, where the program of a worker is not.
   */
  constructor(
    maxHeapMb?: number,
    private readonly niceness = 0,
    private readonly surroundings: WorkerSurroundings = {},
  ) {
    this.#flags = maxHeapMb === undefined ? [] : [`--max-old-space-size=${maxHeapMb}`]
    reaper?.enter()
    kernelKills ??= new KernelOomKills()
  }

  launch(failed: (error: Error) => void): WorkerProcess | undefined {
    const name = `${threadId}-${++launched}`
    const { uid, gid } = this.surroundings
    const report = new CrashReport(name, uid, gid)
    const sharedFile = openSharedFile(name)
    const release = () => {
      if (sharedFile !== undefined) closeSync(sharedFile)
    }
    const giveUp = (error: Error) => {
      report.close(undefined)
      release()
      failed(error)
    }
    const { file, args } = nodeCommand(this.#program, this.#flags, report, sharedFile !== undefined)
    let child: ChildProcess
    try {
      child = spawn(file, args, {
        stdio: ['ignore', 'pipe', 'pipe', 'pipe', 'pipe', report.fd, sharedFile ?? 'ignore'],
        detached: true,
        windowsHide: true,
        ...this.surroundings,
      })
    } catch (error) {
      setImmediate(giveUp, error as Error)
      return undefined
    }
    const { pid } = child
    if (pid === undefined) {
      // Without file descriptors there may be no streams either.
      for (const stream of (child.stdio as ChildProcess['stdio'] | undefined) ?? []) stream?.destroy()
      child.once('error', giveUp)
      return undefined
    }
    reaper?.add(pid)
    // Nothing of the engine keeps its program alive: the caller does, while it has calls, or a server that listens.
    child.unref()
    for (const stream of child.stdio) if (stream instanceof Socket) stream.unref()
    // A signal could not be sent, for example. Its exit is reported all the same.
    child.on('error', () => {})
    return {
      pid,
      input: child.stdio[3] as Writable,
      output: child.stdio[4] as Readable,
      stdout: child.stdout as Readable,
      stderr: child.stderr as Readable,
      sharedFile,
      exited: this.#exitOf(child, pid, report),
      release,
      kill: () => killTree(child, pid),
      lowerPriority: () => lowerPriority(pid, this.niceness, () => isAlive(child)),
    }
  }

  /** Called when every worker has exited. */
  close(): void {
    if (!this.#isClosed) reaper?.leave()
    this.#isClosed = true
  }

  #exitOf(child: ChildProcess, pid: number, report: CrashReport): Promise<ProcessExit> {
    return new Promise((resolveExit) => {
      child.once('exit', (code, signal) => {
        // However it ended, its own children end too. The kernel does not reuse a group id while a member lives.
        killGroup(pid)
        reaper?.remove(pid)
        const isKernelKill = () => signal === 'SIGKILL' && kernelKills?.includesOneMore()
        resolveExit({
          exitCode: code ?? undefined,
          signal: signal ?? undefined,
          oom: report.close(signal ?? undefined) ? 'heap' : isKernelKill() ? 'kernel' : undefined,
        })
      })
    })
  }
}

/** Kills the workers if this process is killed. In a session of its own, so that it survives this process. */
const reaper = process.platform === 'win32' ? undefined : new OrphanReaper(startReaper)

/** All launchers share it: the kernel counts the kills of all their workers together. */
let kernelKills: KernelOomKills | undefined

/**
 * Has the file of a server's Unix socket removed if this process is killed. Returns a function that ends this: the file has
 * been removed, or is about to be.
 */
export function watchSocketFile(path: string): () => void {
  const file = `${statSync(path).ino} ${resolve(path)}`
  reaper?.listen(file)
  return () => reaper?.unlisten(file)
}

/** A file in memory. Undefined where the system has none, or no room. */
const openSharedFile = (name: string): number | undefined =>
  process.platform === 'linux' ? openNamelessFile(`/dev/shm/farpool-${process.pid}-${name}`) : undefined

/** Workers that all launchers of this thread have started. */
let launched = 0

/** Returns undefined if the system has no room for a process. */
function startReaper(ended: () => void): Writable | undefined {
  try {
    const reaper = spawn('/bin/sh', ['-c', REAPER_PROGRAM], { stdio: ['pipe', 'ignore', 'ignore'], detached: true })
    reaper.once('exit', ended)
    reaper.on('error', () => reaper.pid === undefined && ended())
    reaper.stdin?.on('error', () => {})
    reaper.unref()
    if (reaper.stdin instanceof Socket) reaper.stdin.unref()
    return reaper.stdin ?? undefined
  } catch {
    setImmediate(ended)
    return undefined
  }
}

const isAlive = (child: ChildProcess): boolean => child.exitCode === null && child.signalCode === null

function killTree(child: ChildProcess, pid: number): void {
  if (!isAlive(child)) return
  // Without a group (it is gone, or the platform has none), the process itself remains to be killed.
  if (!killGroup(pid)) child.kill('SIGKILL')
}

/** Returns false if there is no such group. */
function killGroup(leader: number): boolean {
  try {
    return process.kill(-leader, 'SIGKILL')
  } catch {
    return false
  }
}
