import type { Target } from './backing.js'
import { errorOf, type FarpoolError, toError } from './errors.js'
import type { FunctionInfo, Transport } from './transport/transport.js'

export type { FunctionInfo } from './transport/transport.js'

/** A pool and its server at one moment; the server of a local pool is this process. Sizes are in bytes, times in milliseconds. */
export interface PoolInfo {
  /** `pools` are the names of the server's shared pools; a local pool has none. */
  server: { version: string; runtime: string; maxMessageBytes: number; graceMs: number; pools: string[] }
  /** The name of the pool. */
  pool: string
  /** Whether it is a shared pool of the server. */
  shared: boolean
  state: 'open' | 'closing' | 'closed' | 'terminated' | 'failed' | 'broken' | 'unknown'
  /** The reason for which a failed or broken pool takes no calls; otherwise undefined. */
  failure: FarpoolError | undefined
  processes: number
  workers: {
    pid: number
    state: 'starting' | 'idle' | 'busy' | 'stopping' | 'unknown'
    /** How many tasks the worker has run. */
    tasks: number
    /** The function that the worker is running; empty if there is none. */
    function: string
  }[]
  queued: number
  queuedBytes: number
  running: number
  /** Counted since the pool was opened. */
  tasks: {
    submitted: number
    succeeded: number
    failed: number
    cancelled: number
    retried: number
    timedOut: number
  }
  workersStarted: number
  /** How often each event of `pool.events` has occurred. */
  events: { connected: number; disconnected: number; workerExited: number }
}

export const functionInfos = async (transport: Transport, pool: string): Promise<FunctionInfo[]> => [
  ...(await transport.functions(pool).catch(rethrow)),
]

export async function poolInfo(transport: Transport, target: Promise<Target>): Promise<Omit<PoolInfo, 'events'>> {
  const read = async () => {
    const { pool } = await target
    return Promise.all([transport.serverInfo(pool), transport.poolInfo(pool)])
  }
  const [{ version, runtime, maxMessageBytes, graceMs, pools }, pool] = await read().catch(rethrow)
  return {
    ...pool,
    server: { version, runtime, maxMessageBytes, graceMs, pools: [...pools] },
    failure: pool.failure && errorOf(pool.failure),
    workers: [...pool.workers],
  }
}

const rethrow = (error: unknown): never => {
  throw toError(error)
}
