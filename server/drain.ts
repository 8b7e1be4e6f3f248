import { setTimeout as sleep } from 'node:timers/promises'
import type { Server } from '@grpc/grpc-js'
import type { Pools } from '../pool/pools.js'
import type { NodeLauncher } from '../pool/process/launcher.js'
import { STOP_MS } from '../pool/process/worker-handle.js'
import { unlisten } from './grpc/listen.js'
import type { Admission } from './limits/admission.js'
import type { Health } from './ops/health.js'
import type { Logger } from './ops/log.js'

/** What is still open when every call has been answered (a health watch, a lease) is given so long to close. */
const CLOSE_MS = 1_000

export interface Drain {
  readonly server: Server
  readonly pools: Pools
  readonly launcher: NodeLauncher
  readonly admission: Admission
  readonly sessions: { close(): void }
  /** `allRead` resolves when all answers that have been written are on their way. */
  readonly budget: { allRead(): Promise<void> }
  readonly health: Health
  readonly logger: Logger
  readonly address: string
  /** How long calls in flight may take; 0 to fail them at once. */
  readonly drainMs: number
}

/**
 * The end of a server, in order: health says so, new calls are refused, nobody can connect and who is connected is told
 * to go elsewhere (GOAWAY), the socket's file goes, calls in flight end (or time runs out), the workers end, the connections
 * close.
 */
export async function drain({
  server,
  pools,
  launcher,
  admission,
  sessions,
  budget,
  health,
  logger,
  address,
  drainMs,
}: Drain): Promise<void> {
  health.set(false)
  admission.drain()
  const closed = new Promise<void>((resolve) => server.tryShutdown(() => resolve()))
  // At once: later the file may be that of the server that comes next.
  launcher.forgetSocketFile()
  await unlisten(address)
  if (drainMs > 0) {
    if (openTasks(pools) > 0) logger.info({ calls: openTasks(pools), drainMs }, 'waiting for calls in flight')
    const idle = await before(drainMs, answered(admission, budget))
    if (!idle && openTasks(pools) > 0) {
      logger.warn({ calls: openTasks(pools) }, 'calls are still in flight; they fail now')
    } else if (!idle) logger.warn('answers are still being read; they are cut off now')
  }
  sessions.close()
  // Workers that have nothing to do exit by themselves: their functions' own exit handlers run.
  if (drainMs > 0 && openTasks(pools) === 0) await before(STOP_MS, pools.close())
  await pools.terminate()
  if (!(await before(CLOSE_MS, closed))) server.forceShutdown()
  launcher.close()
  logger.info('stopped')
}

const openTasks = (pools: Pools): number =>
  pools.pools.reduce((sum, { stats }) => sum + stats.queued + stats.running, 0)

/** Resolves when every call has been answered, and every answer is on its way. */
async function answered(admission: Admission, budget: Drain['budget']): Promise<void> {
  await admission.idle()
  // The last ones are being written in this turn.
  await new Promise(setImmediate)
  await budget.allRead()
}

/** Whether the promise resolves in time. */
async function before(ms: number, promise: Promise<void>): Promise<boolean> {
  const timer = new AbortController()
  const late = sleep(ms, false, { signal: timer.signal }).catch(() => false)
  const inTime = await Promise.race([promise.then(() => true), late])
  timer.abort()
  return inTime
}
