import { closeSync, readFileSync } from 'node:fs'
import { tmpdir, totalmem } from 'node:os'
import { join } from 'node:path'
import { openNamelessFile } from '../../pool/process/nameless-file.js'

/** The memory that this process may use, in bytes: the container's limit if there is one, else the machine's memory. */
export function availableMemory(): number {
  const limit = process.constrainedMemory()
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem()
}

const MIB = 1024 * 1024

/** What a server takes before it holds anything for clients, and what a worker takes before its functions do. */
const SERVER_BYTES = 64 * MIB
const WORKER_BYTES = 48 * MIB

/**
 * The memory that is left for clients and functions beside the server and its workers, in bytes. At least a quarter of all,
 * because more workers than fit are a mistake that smaller limits do not correct.
 */
export const memoryLeft = (processes: number, memory = availableMemory()): number =>
  Math.max(memory / 4, memory - SERVER_BYTES - processes * WORKER_BYTES)

/**
 * Compares the memory with the need of the server, its workers, and twice what it may hold for clients: at that point
 * it cuts clients off. Undefined if there is enough; otherwise the figures, for the log.
 */
export function missingMemory(config: { maxHeldBytes: number; processes: number }): object | undefined {
  const { maxHeldBytes, processes } = config
  const memory = availableMemory()
  const needed = SERVER_BYTES + processes * WORKER_BYTES + 2 * maxHeldBytes
  return memory >= needed ? undefined : { memory, needed, maxHeldBytes, processes }
}

/** The server's file descriptors for one worker: four pipes and sockets, its report, its shared file, and one more while it starts. */
const DESCRIPTORS_PER_WORKER = 7

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

/** The folder for temporary files, for the log, if no file can be made there; otherwise undefined. */
export function unwritableFolder(): { folder: string } | undefined {
  const folder = tmpdir()
  const fd = openNamelessFile(join(folder, `farpool-${process.pid}`))
  if (fd === undefined) return { folder }
  closeSync(fd)
  return undefined
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
