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
