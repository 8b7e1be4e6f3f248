import { readFileSync } from 'node:fs'
import { availableParallelism, totalmem } from 'node:os'

/**
 * The number of CPUs that this process may use, at least 1. A container's CPU quota (cgroup v2 `cpu.max`, or cgroup v1)
 * counts, rounded up; `os.availableParallelism()` of Node 20 does not know the quota.
 *
 * @param root where the cgroup file system is mounted.
 */
export function availableCpus(root = '/sys/fs/cgroup'): number {
  const quota = quotaV2(root) ?? quotaV1(root)
  const cpus = availableParallelism()
  return quota === undefined ? cpus : Math.max(1, Math.min(cpus, Math.ceil(quota)))
}

/** The memory that this process may use, in bytes: the container's limit if there is one, else the machine's memory. */
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

/** The quota in CPUs. Undefined if there is none: cgroup v2 then says "max", cgroup v1 says -1. */
const ratio = (quota: number, period: number): number | undefined =>
  quota > 0 && period > 0 && Number.isFinite(quota / period) ? quota / period : undefined

function read(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8').trim()
  } catch {
    return undefined
  }
}

/** The server's file descriptors for one worker: four pipes and sockets, its report, and one more while it starts. */
const DESCRIPTORS_PER_WORKER = 6

/**
 * Compares the limit of open files with the need of all connections and worker processes. Undefined if the limit is
 * high enough, or unknown; otherwise the figures, for the log.
 */
export function missingDescriptors(config: { maxConnections: number; maxProcesses: number }): object | undefined {
  const { maxConnections, maxProcesses } = config
  const limit = openFilesLimit()
  const needed = maxConnections + DESCRIPTORS_PER_WORKER * maxProcesses
  return limit === undefined || limit >= needed ? undefined : { limit, needed, maxConnections, maxProcesses }
}

/** The most files that this process may have open; undefined if the system does not tell or sets no limit. */
function openFilesLimit(): number | undefined {
  try {
    const limits = readFileSync('/proc/self/limits', 'utf8')
    const soft = /^Max open files\s+(\d+)/m.exec(limits)?.[1]
    return soft === undefined ? undefined : Number(soft)
  } catch {
    // Not Linux.
    const { userLimits } = process.report.getReport() as { userLimits?: { open_files?: { soft?: unknown } } }
    const soft = Number(userLimits?.open_files?.soft)
    return Number.isFinite(soft) ? soft : undefined
  }
}
