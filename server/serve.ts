import { Server } from '@grpc/grpc-js'
import { Pools } from '../pool/pools.js'
import { Spawner } from '../pool/process/launcher.js'
import { KEEPALIVE_MS, KEEPALIVE_TIMEOUT_MS, WINDOW_BYTES } from '../wire/protocol.js'
import { encodePayload } from '../wire/values/payload.js'
import { Joins } from './api/request-deduplication.js'
import { implementation } from './api/service.js'
import { resolveConfig, type ServeConfig, type ServeOptions } from './config.js'
import { drain } from './drain.js'
import { failureStatus } from './grpc/adapter.js'
import { serviceDefinition } from './grpc/definition.js'
import { Windows } from './grpc/http2-server.js'
import { Incoming } from './grpc/inbound.js'
import { listen, socketPath } from './grpc/listen.js'
import { Admission } from './limits/admission.js'
import { limitConnections } from './limits/connections.js'
import { Budget, Connections } from './limits/memory-budget.js'
import { Health } from './ops/health.js'
import { missingDescriptors } from './ops/host-limits.js'
import { giveBackWhenIdle } from './ops/idle-memory.js'
import { Log, type Logger, poolLog } from './ops/log.js'
import { addReflection } from './ops/reflection.js'
import type { CallStream } from './session/call-stream.js'
import { Sessions } from './session/session-table.js'
import { VERSION } from './version.js'

/** A server that takes calls. */
export interface RunningServer extends AsyncDisposable {
  /** What clients connect to: the bound port, where port 0 was asked for. */
  readonly address: string
  readonly logger: Logger
  readonly config: ServeConfig
  /** Takes no new calls, lets those in flight end (at most `drainMs`), ends the workers, closes. */
  drain(): Promise<void>
  /** Fails the calls in flight, kills the workers, closes. */
  stop(): Promise<void>
}

/**
 * Starts a server: workers first, then the address; resolves when calls can come. The composition root: what the
 * server consists of is made here and nowhere else.
 *
 * @throws Failure for a wrong option, a module that cannot be loaded, an initializer that fails, an address in use.
 */
export async function serve(options: ServeOptions): Promise<RunningServer> {
  const config = resolveConfig(options)
  const log = new Log(config.logLevel)
  const { logger } = log
  const descriptors = missingDescriptors(config)
  if (descriptors) logger.warn(descriptors, 'fewer file descriptors than connections and processes may need')
  const spawner = new Spawner(
    config.maxHeapMb === undefined ? [] : [`--max-old-space-size=${config.maxHeapMb}`],
    config.workerNice,
  )
  const pools = new Pools(
    {
      modules: config.modules,
      processes: config.processes,
      initializer: config.initializer,
      initargs: config.initargs.map((arg) => encodePayload(arg, 'cbor')),
      maxTasksPerChild: config.maxTasksPerChild,
      maxRunningPerClient: config.maxRunningPerClient,
      startTimeoutMs: config.startTimeoutMs,
      graceMs: config.graceMs,
      runTimeoutMs: config.runTimeoutMs,
      maxRssBytes: config.maxRssMb * 1024 * 1024,
      maxResultBytes: config.maxMessageBytes,
      limits: {
        maxQueued: config.maxQueued,
        maxQueuedPerClient: config.maxQueuedPerClient,
        maxQueuedBytes: config.maxQueuedBytes,
      },
      stacks: config.stacks,
      spawner,
    },
    { maxPools: config.maxPools, maxProcesses: config.maxProcesses },
    (pool) => poolLog(log, pool),
  )
  const admission = new Admission()
  const sessions = new Sessions<CallStream>()
  const health = new Health()
  const windows = new Windows(WINDOW_BYTES)
  const budget = new Budget(config.maxHeldBytes, {
    narrow: (isNarrow) => windows.narrow(isNarrow),
    room: () => {
      for (const pool of pools.all) pool.resume()
    },
    cut: (bytes) => logger.warn({ bytes }, 'the server holds too much for its clients: who holds most is cut off'),
  })
  const connections = new Connections(budget, config.maxHeldBytes)
  const incoming = new Incoming(config.maxMessageBytes, connections, failureStatus)
  const server = new Server({
    // What is larger never gets to a handler, and its caller no reason; what is a little too large does.
    'grpc.max_receive_message_length': 2 * config.maxMessageBytes + 64 * 1024,
    'grpc.max_send_message_length': -1,
    'grpc.keepalive_time_ms': KEEPALIVE_MS,
    'grpc.keepalive_timeout_ms': KEEPALIVE_TIMEOUT_MS,
    'grpc.enable_channelz': 0,
    // A grpc-js that heeds it on a server needs no Windows.
    'grpc-node.flow_control_window': WINDOW_BYTES,
    interceptors: [incoming.interceptor],
  })
  if (!windows.widen(server)) {
    logger.warn('this grpc-js keeps HTTP/2 windows of 64 KiB: uploads over long distances are slow')
  }
  const told = {
    refused: () => logger.warn({ maxConnections: config.maxConnections }, 'too many connections: new ones are closed'),
    offended: (address: string) =>
      logger.warn({ address, maxViolations: config.maxViolations }, 'connections break the protocol: new ones wait'),
  }
  if (!limitConnections(server, config, told)) {
    logger.warn('this grpc-js takes no limits of connections, streams and metadata')
  }
  const context = {
    pools,
    admission,
    budget,
    sessions,
    joins: new Joins(),
    limits: { maxMessageBytes: config.maxMessageBytes, maxQueuedPerClient: config.maxQueuedPerClient },
    allowTerminate: config.allowTerminate,
    version: VERSION,
  }
  const edge = {
    maxMessageBytes: config.maxMessageBytes,
    report: (error: unknown) => logger.error({ err: error }, 'internal fault'),
    taken: (message: Uint8Array, isOnly: boolean) => incoming.taken(message, isOnly),
    client: (peer: string) => connections.client(peer),
  }
  server.addService(serviceDefinition, implementation(context, edge))
  health.addTo(server)
  addReflection(server)
  let address: string
  try {
    const pool = await pools.start({
      broken: () => health.set(false),
      recovered: () => health.set(!admission.draining),
    })
    address = await listen(server, config.listen)
    const path = socketPath(address)
    if (path) spawner.listens(path, config.ownsFolder)
    void pool.ended.then(() => health.set(false))
  } catch (error) {
    await pools.terminate()
    spawner.close()
    server.forceShutdown()
    throw error
  }
  health.set(true)
  const stopGivingBack = giveBackWhenIdle(
    () => pools.all,
    () => budget.held,
  )
  logger.info(
    { address, processes: config.processes, functions: pools.functions.all.map(({ name }) => name) },
    'serving',
  )
  let ending: Promise<void> | undefined
  const end = (drainMs: number) => {
    stopGivingBack()
    return drain({ server, pools, spawner, admission, sessions, budget, health, logger, address, drainMs })
  }
  const stop = () => end(0)
  return {
    address,
    logger,
    config,
    drain: () => (ending ??= end(config.drainMs)),
    stop: () => (ending = stop()),
    [Symbol.asyncDispose]: stop,
  }
}
