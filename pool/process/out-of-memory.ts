import { closeSync, fstatSync, openSync, readFileSync, readSync, unlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Where a worker finds the file for its report (Linux); file descriptors of other systems cannot be opened again. */
const FDS = '/proc/self/fd'
const REPORT_FD = 5

/**
 * Node's diagnostic report of one worker, which it writes when its heap is full: the only word that tells that end from
 * an abort() of native code. The file has no name any more, so nothing is left behind whoever is killed.
 */
export class CrashReport {
  readonly #fd: number | undefined

  constructor(name: string) {
    if (process.platform !== 'linux') return
    const path = join(tmpdir(), `farpool-report-${process.pid}-${name}`)
    try {
      this.#fd = openSync(path, 'wx+', 0o600)
      unlinkSync(path)
    } catch {
      // No room for a file: then a full heap is a crash like any other.
    }
  }

  /** What the worker is started with; its file descriptor 5 is the file. */
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

  /** Whether the heap was full. To be called once, when the worker has ended. */
  close(signal: string | undefined): boolean {
    if (this.#fd === undefined) return false
    try {
      const { size } = fstatSync(this.#fd)
      // Also of a process that was killed while it wrote. What stands in it may hold the environment: it is not passed on.
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

/** Of several that the kernel has ended, all are heard within so long: the last pages of a large one take a while. */
const HEARD_MS = 5_000

/**
 * Tells of a worker that was killed whether the kernel did so for want of memory. The kernel gives no names, only a
 * number: as many as it has ended since the last look are taken for its own, in the order in which they are heard. So of
 * two that die within a moment, one by the kernel and one by somebody else, both may be taken for the other.
 */
export class KernelKills {
  #known = kernelOomKills()
  /** Ended by the kernel, and not heard yet. */
  #unheard = 0
  #heardBy = 0

  /** To be asked once for each that has ended by SIGKILL. */
  includes(): boolean {
    const known = kernelOomKills()
    const now = performance.now()
    if (now > this.#heardBy) this.#unheard = 0
    if (known > this.#known) {
      this.#unheard += known - this.#known
      this.#heardBy = now + HEARD_MS
    }
    this.#known = known
    if (this.#unheard === 0) return false
    this.#unheard--
    return true
  }
}

/**
 * How many processes the kernel has ended for want of memory: in the control group of this process where that counts
 * them, else on the whole machine. 0 where neither is known.
 */
function kernelOomKills(): number {
  const groups = read('/proc/self/cgroup')
  for (const file of [...ofVersion2(groups), ...ofVersion1(groups), '/proc/vmstat']) {
    const kills = /^oom_kill (\d+)$/m.exec(read(file))?.[1]
    if (kills !== undefined) return Number(kills)
  }
  return 0
}

/** Where a container sees only its own part of the tree, its group is the root of that, whatever its name outside. */
function* ofVersion2(groups: string): Iterable<string> {
  const group = /^0::(.*)$/m.exec(groups)?.[1]
  if (group === undefined) return
  yield join(CGROUPS, group, 'memory.events')
  yield join(CGROUPS, 'memory.events')
}

function* ofVersion1(groups: string): Iterable<string> {
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
