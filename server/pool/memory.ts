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

/** Whether a process has been stopped by a signal (not by a debugger). False where the system does not say. */
export const isStopped = (pid: number): boolean => /^\d+ \(.*\) T /s.test(read(`/proc/${pid}/stat`))

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}
