import type { PoolDefaults } from '../pool/pools.js'
import type { Launcher } from '../pool/process/launcher.js'
import { encodePayload } from '../wire/values/payload.js'
import type { PoolConfig, ServeConfig } from './config.js'

/** A shared pool, in the words of the engine. */
export const poolDefaults = (pool: PoolConfig, server: ServeConfig, launcher: Launcher): PoolDefaults => ({
  launcher,
  modules: pool.modules,
  processes: pool.processes,
  initializer: pool.initializer,
  initargs: pool.initargs.map((arg) => encodePayload(arg, 'cbor')),
  maxTasksPerChild: pool.maxTasksPerChild,
  maxRunningPerClient: pool.maxRunningPerClient,
  startTimeoutMs: pool.startTimeoutMs,
  graceMs: pool.graceMs,
  runTimeoutMs: pool.runTimeoutMs,
  maxRssBytes: pool.maxRssMb * 1024 * 1024,
  maxResultBytes: server.maxMessageBytes,
  limits: {
    maxQueued: pool.maxQueued,
    maxQueuedPerClient: pool.maxQueuedPerClient,
    maxQueuedBytes: pool.maxQueuedBytes,
  },
  stacks: server.stacks,
})
