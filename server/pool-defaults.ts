import type { PoolDefaults } from '../pool/pools.js'
import { Failure } from '../wire/failure.js'
import { encodePayload } from '../wire/values/payload.js'
import { reasonOf } from '../wire/values/value-errors.js'
import type { PoolConfig, ServeConfig } from './config.js'

/** A shared pool, in the words of the engine. @throws Failure ARGUMENT_ENCODE_FAILED. */
export const poolDefaults = (pool: PoolConfig, server: ServeConfig): Omit<PoolDefaults, 'launcher'> => ({
  modules: pool.modules,
  processes: pool.processes,
  initializer: pool.initializer,
  initargs: pool.initargs.map(encodeInitarg),
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

function encodeInitarg(arg: unknown, at: number): Uint8Array {
  try {
    return encodePayload(arg, 'cbor')
  } catch (error) {
    throw new Failure('ARGUMENT_ENCODE_FAILED', `argument ${at + 1} of initargs cannot be sent: ${reasonOf(error)}`)
  }
}
