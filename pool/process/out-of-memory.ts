import { closeSync, fchownSync, fstatSync, readFileSync, readSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openNamelessFile } from './nameless-file.js'

/** Where a worker finds its open files (Linux). Other systems cannot open a file descriptor again. */
const FDS = '/proc/self/fd'
const REPORT_FD = 5

/**
 * The diagnostic report that Node writes when a worker's heap is full: the only way to tell that end from an abort() of
 * native code.
 */
export class CrashReport {
  readonly #fd: number | undefined

  /** @param uid, gid the user and the group of the worker, if it has others than this process. */
  constructor(name: string, uid?: number, gid?: number) {
    if (process.platform !== 'linux') return
    // Without a file a full heap looks like any other crash. A container may have a folder in memory only.
    for (const folder of [tmpdir(), '/dev/shm']) {
      this.#fd ??= openNamelessFile(join(folder, `farpool-report-${process.pid}-${name}`))
    }
    // The worker opens it again.
    if (this.#fd !== undefined && uid !== undefined) fchownSync(this.#fd, uid, gid ?? uid)
  }

  /** Flags of Node for the worker, whose file descriptor 5 must be `fd`. */
  get flags(): readonly string[] {
    if (this.#fd === undefined) return []
    const exclude = ['--report-exclude-network', '--report-exclude-env'].filter((flag) =>
      process.allowedNodeEnvironmentFlags.has(flag),
    )
    return [
      '--report-on-fatalerror',
      '--report-compact',
      `--report-directory=${FDS}`,
      `--report-filename=${REPORT_FD}`,
      ...exclude,
    ]
  }

  get fd(): number | 'ignore' {
    return this.#fd ?? 'ignore'
  }

  /** Whether the heap was full. Called once, after the worker has exited. */
  close(signal: string | undefined): boolean {
    if (this.#fd === undefined) return false
    try {
      const { size } = fstatSync(this.#fd)
      // A worker can also be killed while it writes. The report may contain the environment, so nothing else of it is used.
      if (signal !== 'SIGABRT' || size === 0) return false
      const bytes = Buffer.alloc(size)
      readSync(this.#fd, bytes, 0, size, 0)
      return (JSON.parse(bytes.toString('utf8')) as { header?: { trigger?: string } }).header?.trigger === 'OOMError'
    } catch {
      return false
    } finally {
      closeSync(this.#fd)
    }
  }
}

const CGROUPS = '/sys/fs/cgroup'

/** Exits of processes that the kernel killed together arrive within this time: freeing a large one takes a while. */
const REPORTED_WITHIN_MS = 5_000

/**
 * Tells whether a worker that died of SIGKILL was killed by the kernel for want of memory. The kernel counts such kills
 * but names no process, so each new kill is attributed to the next worker that exits. If two workers die within a
 * moment, one killed by the kernel and one by a person, they may be mixed up.
 */
export class KernelOomKills {
  #counted = countOomKills()
  /** Kills that no exit has been attributed to. */
  #open = 0
  #openUntil = 0

  /** Called once for each worker that died of SIGKILL. */
  includesOneMore(): boolean {
    const counted = countOomKills()
    const now = performance.now()
    if (now > this.#openUntil) this.#open = 0
    if (counted > this.#counted) {
      this.#open += counted - this.#counted
      this.#openUntil = now + REPORTED_WITHIN_MS
    }
    this.#counted = counted
    if (this.#open === 0) return false
    this.#open--
    return true
  }
}

/**
 * Processes that the kernel has killed for want of memory: in the control group of this process if that counts them,
 * otherwise on the whole machine. 0 if neither is known.
 */
function countOomKills(): number {
  const groups = read('/proc/self/cgroup')
  for (const file of [...version2Files(groups), ...version1Files(groups), '/proc/vmstat']) {
    const kills = /^oom_kill (\d+)$/m.exec(read(file))?.[1]
    if (kills !== undefined) return Number(kills)
  }
  return 0
}

/** A container that sees only its own part of the tree has its group at the root, whatever its name outside is. */
function* version2Files(groups: string): Iterable<string> {
  const group = /^0::(.*)$/m.exec(groups)?.[1]
  if (group === undefined) return
  yield join(CGROUPS, group, 'memory.events')
  yield join(CGROUPS, 'memory.events')
}

function* version1Files(groups: string): Iterable<string> {
  const group = /^\d+:(?:[^:]*,)?memory(?:,[^:]*)?:(.*)$/m.exec(groups)?.[1]
  if (group === undefined) return
  yield join(CGROUPS, 'memory', group, 'memory.oom_control')
  yield join(CGROUPS, 'memory', 'memory.oom_control')
}

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}
