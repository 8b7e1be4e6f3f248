import { setTimeout as sleep } from 'node:timers/promises'
import type { Server } from '@grpc/grpc-js'
import type { Pools } from '../pool/pools.js'
import type { NodeLauncher } from '../pool/process/launcher.js'
import { STOP_MS } from '../pool/process/worker-handle.js'
import { unlisten } from './grpc/listen.js'
import type { Admission } from './limits/admission.js'
import type { Health } from './ops/health.js'
import type { Logger } from './ops/log.js'

/** The time that connections get to close after the last call: some still have a health watch or a lease open. */
const CLOSE_MS = 1_000

/** The parts of a server that have to end, and how. */
export interface Drain {
  readonly server: Server
  readonly pools: Pools
  readonly launchers: readonly NodeLauncher[]
  /** The file of the Unix socket is about to be removed. */
  forgetSocketFile(): void
  readonly admission: Admission
  readonly sessions: { close(): void }
  /** `allRead` resolves when every reply has been passed to its connection. */
  readonly budget: { allRead(): Promise<void> }
  readonly health: Health
  readonly logger: Logger
  readonly address: string
  /** The time for calls in flight, in milliseconds. 0: they fail at once. */
  readonly drainMs: number
}

/**
 * Shuts a server down, in this order:
 *
 * 1. Health says NOT_SERVING, and new calls fail with SERVER_DRAINING.
 * 2. The server takes no new connections. Each open connection gets a GOAWAY, so its client connects elsewhere.
 * 3. The file of the Unix socket is removed.
 * 4. Calls in flight may end, for at most `drainMs`.
 * 5. The sessions close. Calls that are still in flight fail.
 * 6. The workers end. Idle workers exit by themselves first, unless time ran out or `drainMs` is 0.
 * 7. The connections close, after CLOSE_MS by force.
 */
export async function drain(parts: Drain): Promise<void> {
  const { server, pools, launchers, sessions, health, admission, logger, address, drainMs } = parts
  // 1
  health.set(false)
  admission.drain()
  // 2
  const closed = new Promise<void>((resolve) => server.tryShutdown(() => resolve()))
  // 3. Before the wait: after it the file may already belong to the next server.
  parts.forgetSocketFile()
  await unlisten(address)
  // 4
  if (drainMs > 0) await waitForCalls(parts)
  // 5
  sessions.close()
  // 6. A worker that exits by itself runs the exit handlers of its functions.
  if (drainMs > 0 && openTasks(pools) === 0) await within(STOP_MS, pools.close())
  await pools.terminate()
  // 7
  if (!(await within(CLOSE_MS, closed))) server.forceShutdown()
  for (const launcher of launchers) launcher.close()
  logger.info('stopped')
}

const openTasks = (pools: Pools): number =>
  pools.pools.reduce((sum, { stats }) => sum + stats.queued + stats.running, 0)

/** Waits until every call has ended and its reply is on its way, for at most `drainMs`. */
async function waitForCalls({ pools, admission, budget, logger, drainMs }: Drain): Promise<void> {
  const calls = openTasks(pools)
  if (calls > 0) logger.info({ calls, drainMs }, 'waiting for calls in flight')
  if (await within(drainMs, answered(admission, budget))) return
  const left = openTasks(pools)
  if (left > 0) logger.warn({ calls: left }, 'calls are still in flight; they fail now')
  else logger.warn('answers are still being read; they are cut off now')
}

async function answered(admission: Admission, budget: Drain['budget']): Promise<void> {
  await admission.idle()
  // The last replies are written in this turn of the event loop.
  await new Promise(setImmediate)
  await budget.allRead()
}

/** True if the promise resolves within `ms` milliseconds. */
async function within(ms: number, promise: Promise<void>): Promise<boolean> {
  const timer = new AbortController()
  const late = sleep(ms, false, { signal: timer.signal }).catch(() => false)
  const inTime = await Promise.race([promise.then(() => true), late])
  timer.abort()
  return inTime
}
