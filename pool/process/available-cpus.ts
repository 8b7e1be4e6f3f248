import { readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'

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
