import { Server } from '@grpc/grpc-js'
import type { Pool } from '../pool/pool.js'
import { Pools } from '../pool/pools.js'
import { type NodeLauncher, watchSocketFile } from '../pool/process/launcher.js'
import { socketPath } from '../wire/address.js'
import { asFailure, Failure } from '../wire/failure.js'
import { packageVersion } from '../wire/package.js'
import { MAX_TIMER_MS } from '../wire/protocol.js'
import { RequestDeduplication } from './api/request-deduplication.js'
import { addPoolService } from './api/service.js'
import { Authentication } from './auth/authentication.js'
import type { ServeConfig, ServeOptions } from './config.js'
import { drain } from './drain.js'
import { grpcStatus } from './grpc/adapter.js'
import { TlsCredentials } from './grpc/certificates.js'
import { configureHttp2 } from './grpc/http2-server.js'
import { InboundMemory } from './grpc/inbound.js'
import { listen } from './grpc/listen.js'
import { Admission } from './limits/admission.js'
import type { Crowded } from './limits/connection-limits.js'
import { ConnectionAccounts, MemoryBudget, windowFor } from './limits/memory-budget.js'
import { Health } from './ops/health.js'
import { missingDescriptors, missingMemory, unwritableFolder } from './ops/host-limits.js'
import { giveBackWhenIdle } from './ops/idle-memory.js'
import { Log, type Logger, poolLog } from './ops/log.js'
import { addReflection } from './ops/reflection.js'
import { watchModules } from './ops/watch-modules.js'
import { poolDefaults } from './pool-defaults.js'
import { processesOf, resolveConfig } from './resolve-config.js'
import type { CallStream } from './session/call-stream.js'
import { SessionTable } from './session/session-table.js'
import { workerLauncher } from './worker-launcher.js'

/** What the log says where there are too many connections. */
const CROWDED: Record<Crowded, string> = {
  closesIdle: 'the longest idle ones are closed',
  healthOnly: 'none is idle, and new ones get answers to health checks only',
  closesNew: 'new ones are closed',
}

/** A server that takes calls. Disposing of it stops it. */
export interface RunningServer extends AsyncDisposable {
  /** What clients connect to, with the bound port if port 0 was asked for. */
  readonly address: string
  readonly logger: Logger
  readonly config: ServeConfig
  /** Takes no new calls, lets the calls in flight end (for at most `drainMs`), ends the workers, closes. */
  drain(): Promise<void>
  /** Fails the calls in flight, kills the workers, closes. */
  stop(): Promise<void>
}

/**
 * Starts a server: first the workers, then the address. Resolves when calls can come. This is the composition root: the
 * parts of a server are made here and nowhere else.
 *
 * @throws Failure for a wrong option, a certificate that cannot be used, a module that cannot be loaded, an initializer that
 *   fails, an address in use, and CANCELLED if the signal fires during the start.
 */
export async function serve(options: ServeOptions): Promise<RunningServer> {
  const config = resolveConfig(options)
  const { signal } = options
  checkNotEnded(signal)
  const tls = await TlsCredentials.from(config)
  const log = await Log.open(config.logLevel, config.logFormat)
  const { logger } = log
  const descriptors = missingDescriptors(config)
  if (descriptors) logger.warn(descriptors, 'fewer file descriptors than connections and processes may need')
  const memory = missingMemory({ ...config, processes: processesOf(config.pools) })
  if (memory) logger.warn(memory, 'less memory than the server, its workers and what it may hold for clients need')
  if (process.getuid?.() === 0 && config.workerUser === undefined)
    logger.warn('functions run as root: --worker-user has them run as another user')
  const folder = unwritableFolder()
  if (folder) {
    logger.warn(
      folder,
      'no file can be made in the folder for temporary files: functions may need it, workers start slower',
    )
  }
  const defaults = [...config.pools].map(([name, pool]) => [name, pool, poolDefaults(pool, config)] as const)
  const sessions = new SessionTable<CallStream>()
  const authentication = new Authentication(config.tokens, {
    refused: (client, why) => logger.warn({ client }, `a call was refused: ${why}`),
    revoked: (credential, reason) => {
      logger.info({ name: credential.principal.name }, reason.message)
      sessions.revoked(credential, reason)
    },
    changed: (names) => logger.info({ names }, 'the tokens are in force'),
    broken: ({ message }) => logger.error(`the changed file of tokens cannot be used, the old one stays: ${message}`),
  })
  const launchers: NodeLauncher[] = []
  const pools = defaults.map(([name, pool, settings]) => {
    const launcher = workerLauncher(pool, config)
    launchers.push(launcher)
    return [name, { ...settings, launcher }] as const
  })
  const engine = new Pools(new Map(pools), { maxPools: config.maxPools, maxProcesses: config.maxProcesses }, (pool) =>
    poolLog(log, pool),
  )
  // The engine does not keep the program alive while the workers start, and while they end.
  const alive = setInterval(() => {}, MAX_TIMER_MS)
  const admission = new Admission()
  const health = new Health()
  const budget = new MemoryBudget(config.maxHeldBytes, {
    pressure: (isHigh) => http2?.narrowWindows(isHigh),
    room: () => {
      for (const pool of engine.pools) pool.resume()
    },
    cut: (bytes) =>
      logger.warn({ bytes }, 'the server holds too much for its clients: the one that holds most is cut off'),
  })
  const connections = new ConnectionAccounts(budget, config.maxHeldBytes)
  const inbound = new InboundMemory(config.maxMessageBytes, connections, authentication, grpcStatus)
  const windowBytes = windowFor(config.maxHeldBytes)
  const server = new Server({
    // A message that is a little too large still reaches the adapter, so that its caller gets a reason.
    'grpc.max_receive_message_length': 2 * config.maxMessageBytes + 64 * 1024,
    'grpc.max_send_message_length': -1,
    'grpc.enable_channelz': 0,
    // For a future grpc-js that supports it on servers.
    'grpc-node.flow_control_window': windowBytes,
    interceptors: [inbound.interceptor],
  })
  const { maxConnections, maxConnectionsPerAddress } = config
  const connectionLimits = { maxConnections, maxConnectionsPerAddress }
  const http2 = configureHttp2(
    server,
    { ...config, windowBytes },
    {
      admit: (stream, headers) => authentication.admit(stream, headers),
      crowded: (what) => logger.warn(connectionLimits, `too many connections: ${CROWDED[what]}`),
      silent: (client, ms) =>
        logger.warn({ client }, `the client did not answer for ${ms / 1_000} s; its connection is closed`),
      handshakeFailed: (client, why) => logger.warn({ client }, `a client was refused by TLS: ${why}`),
    },
  )
  if (!http2) {
    logger.warn(
      'this grpc-js is built differently: no HTTP/2 window above 64 KiB, limit of connections, socket mode and pings',
    )
  }
  addPoolService(
    server,
    {
      engine,
      admission,
      budget,
      sessions,
      deduplication: new RequestDeduplication(),
      maxMessageBytes: config.maxMessageBytes,
      allowTerminate: config.allowTerminate,
      version: packageVersion(),
    },
    {
      maxMessageBytes: config.maxMessageBytes,
      report: (error) => logger.error({ err: error }, 'internal fault'),
      memory: inbound,
    },
  )
  health.addTo(server)
  if (config.reflection) addReflection(server)
  let address: string
  let forgetSocketFile = () => {}
  const checkHealth = () =>
    health.set(!admission.isDraining && engine.shared.every(({ state }) => state.kind === 'open'))
  // The start of the engine fails then, or the check behind it does.
  const endStart = () => void engine.terminate()
  signal?.addEventListener('abort', endStart)
  try {
    if (!http2 && config.tokens !== undefined) {
      throw new Failure('INTERNAL', 'tokens cannot be checked, because this grpc-js is built differently')
    }
    await authentication.start()
    await engine.start({ state: checkHealth })
    address = await listen(server, config.listen, tls)
    const path = socketPath(address)
    if (path) forgetSocketFile = watchSocketFile(path)
    checkNotEnded(signal)
  } catch (error) {
    await engine.terminate()
    // Removes the file of a Unix socket, too.
    server.forceShutdown()
    forgetSocketFile()
    for (const launcher of launchers) launcher.close()
    authentication.close()
    clearInterval(alive)
    checkNotEnded(signal)
    throw error
  } finally {
    signal?.removeEventListener('abort', endStart)
  }
  checkHealth()
  const stopGivingBack = giveBackWhenIdle(
    () => engine.pools,
    () => budget.held,
  )
  const watchers = config.watch ? engine.shared.map((pool) => watchPool(engine, pool, logger)) : []
  const stopReloading = tls?.watch({
    replaced: (facts) => logger.info(facts, 'the TLS files were reloaded'),
    refused: (why) => logger.warn(`the changed TLS files cannot be used, the old ones stay: ${why}`),
  })
  const served = engine.shared.map((pool) => [
    pool.name,
    { processes: pool.options.processes, functions: functionNames(pool) },
  ])
  logger.info({ address, pools: Object.fromEntries(served) }, 'serving')
  let ending: Promise<void> | undefined
  const end = (drainMs: number) => {
    stopGivingBack()
    for (const stop of watchers) stop()
    stopReloading?.()
    const parts = {
      server,
      pools: engine,
      launchers,
      forgetSocketFile,
      admission,
      sessions,
      budget,
      health,
      logger,
      address,
    }
    return drain({ ...parts, drainMs }).finally(() => {
      authentication.close()
      clearInterval(alive)
    })
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

/** With `watch`: a pool gets new workers when files of its modules have changed. Returns a function that ends it. */
function watchPool(engine: Pools, pool: Pool, logger: Logger): () => void {
  const log = logger.child({ pool: pool.name })
  const reload = async (files: readonly string[]) => {
    try {
      await engine.reload(pool.name)
      log.info({ files, functions: functionNames(pool) }, 'the workers get the changed modules')
    } catch (error) {
      log.error({ files }, `the changed modules cannot be used, the old ones stay: ${asFailure(error).message}`)
    }
  }
  return watchModules(pool.options.modules, reload, (folder, error) =>
    log.warn({ folder }, `changes in this folder are not seen: ${error.message}`),
  )
}

const functionNames = ({ functions }: Pool): string[] => functions.all.map(({ name }) => name)

/** @throws Failure CANCELLED if the signal has fired. */
function checkNotEnded(signal: AbortSignal | undefined): void {
  if (!signal?.aborted) return
  const why = signal.reason instanceof Error ? signal.reason.message : String(signal.reason)
  throw new Failure('CANCELLED', `the server was ended while it started: ${why}`)
}
