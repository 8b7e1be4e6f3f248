import { readFileSync } from 'node:fs'
import { availableParallelism, totalmem } from 'node:os'

/**
 * How many CPUs this process may use: a container's quota (cgroup v2 `cpu.max`, or v1) where it has one, rounded up,
 * at least 1. Node 20's `os.availableParallelism()` does not know of it.
 */
export function availableCpus(root = '/sys/fs/cgroup'): number {
  const quota = quotaV2(root) ?? quotaV1(root)
  const cpus = availableParallelism()
  return quota === undefined ? cpus : Math.max(1, Math.min(cpus, Math.ceil(quota)))
}

/** How much memory this process may use, in bytes: a container's limit where it has one. */
export function availableMemory(): number {
  const limit = process.constrainedMemory()
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem()
}

function quotaV2(root: string): number | undefined {
  const [quota, period] = read(`${root}/cpu.max`)?.split(' ') ?? []
  return ratio(Number(quota), Number(period))
}

const quotaV1 = (root: string): number | undefined =>
  ratio(Number(read(`${root}/cpu/cpu.cfs_quota_us`)), Number(read(`${root}/cpu/cpu.cfs_period_us`)))

/** "max" and -1 mean that there is no quota. */
const ratio = (quota: number, period: number): number | undefined =>
  quota > 0 && period > 0 && Number.isFinite(quota / period) ? quota / period : undefined

function read(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8').trim()
  } catch {
    return undefined
  }
}

/** What a worker takes of a server's file descriptors: its four pipes and sockets, its report, and one while it starts. */
const PER_PROCESS = 6

interface Needs {
  readonly maxConnections: number
  readonly maxProcesses: number
}

/** The figures, where this process may not open as many files as its limits allow connections and processes; else undefined. */
export function missingDescriptors({ maxConnections, maxProcesses }: Needs): object | undefined {
  const limit = openFilesLimit()
  const needed = maxConnections + PER_PROCESS * maxProcesses
  return limit === undefined || limit >= needed ? undefined : { limit, needed, maxConnections, maxProcesses }
}

/** How many files this process may have open; undefined where the system does not say. */
function openFilesLimit(): number | undefined {
  try {
    const limits = readFileSync('/proc/self/limits', 'utf8')
    const soft = /^Max open files\s+(\d+)/m.exec(limits)?.[1]
    return soft === undefined ? undefined : Number(soft)
  } catch {
    const { userLimits } = process.report.getReport() as { userLimits?: { open_files?: { soft?: unknown } } }
    const soft = Number(userLimits?.open_files?.soft)
    return Number.isFinite(soft) ? soft : undefined
  }
}
