import { readFileSync } from 'node:fs'

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
