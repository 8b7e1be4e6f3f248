import { GRACE_MS, modulePath, START_MS } from '../pool/defaults.js'
import { checkCount, MAX_PROCESSES } from '../pool/pools.js'
import { availableCpus } from '../pool/process/available-cpus.js'
import { MAX_NICENESS } from '../pool/process/priority.js'
import { checkAddress, isLoopback } from '../wire/address.js'
import { Failure } from '../wire/failure.js'
import { MAX_FRAME_BYTES, MAX_TIMER_MS, PING_TIMEOUT_MS } from '../wire/protocol.js'
import { MAX_CONNECTIONS } from './limits/memory-budget.js'
import { availableMemory } from './ops/host-limits.js'
import { LOG_FORMATS, LOG_LEVELS, type LogFormat, type LogLevel } from './ops/log.js'

/** Largest gRPC message by default: a 64 MiB payload with room for what stands around it. */
const MAX_MESSAGE_BYTES = 72 * 1024 * 1024

/** The niceness of workers, added to that of the server. */
const WORKER_NICE = 5

/** What may wait in a pool, in tasks and bytes: a task takes some 300 bytes besides. */
const MAX_QUEUED = 1_000_000
const MAX_QUEUED_BYTES = 1024 * 1024 * 1024

/** How many pools clients may have open at once. */
const MAX_POOLS = 1_000

/**
 * The most bytes that a server holds for all its clients (server/limits/memory-budget.ts), unless its container has less
 * memory. One client alone can use half of it. At twice the limit the connection or stream that holds most is cut off.
 */
const MAX_HELD_BYTES = 1024 * 1024 * 1024

/**
 * The most open RPCs of a connection; its client keeps further ones back. A farpool client needs one or two streams for
 * all its calls; a plain stub needs one for each. An open stream takes 6 KiB and may hold a message.
 */
const MAX_STREAMS = 1_000

/** The most bytes of all headers of a call, as HTTP/2 counts them: 32 more for each header. Python and Go have the same limit. */
const MAX_METADATA_BYTES = 16 * 1024

/** The options of a server. */
export interface ServeOptions {
  /** The modules that export the functions: paths (from the working directory) or file: URLs. At least one. */
  modules: readonly (string | URL)[]
  /** `host:port` (port 0 for a free one) or `unix:/path/to.sock`. Default `127.0.0.1:50051`. */
  listen?: string
  /** Workers of the shared pool. Default: the CPUs that this process may use. As `processes` of multiprocessing.Pool. */
  processes?: number
  /** The name of a function that each worker of the shared pool calls when it starts. */
  initializer?: string
  /** Its arguments. */
  initargs?: readonly unknown[]
  /** Replaces a worker after this number of tasks. Default: never. */
  maxTasksPerChild?: number
  /** How long a function may go on after its call was cancelled, in milliseconds; then its process is killed. Default 2000. */
  graceMs?: number
  /** How long a worker may take to load the modules and run the initializer, in milliseconds; 0 for any time. Default 60000. */
  startTimeoutMs?: number
  /** How long a task may run, unless its call or its function says otherwise, in milliseconds. Default 0: any time. */
  runTimeoutMs?: number
  /** The heap of each worker, in MiB, as Node's --max-old-space-size. A function that needs more ends with WORKER_OOM. Default: Node's own. */
  maxHeapMb?: number
  /**
   * The niceness of workers, added to that of the server, 0 to 19. When server and worker want the same CPU, the server gets
   * most of it, because all clients wait for the server and only one waits for the function. Default 5, which leaves the
   * function a quarter of that CPU.
   */
  workerNice?: number
  /** Replaces a worker after a task if it has more resident memory than this, in MiB. Default: never. */
  maxRssMb?: number
  /** The most tasks that wait in a pool: of all clients (default 1,000,000), and of one (default: the same). More fail with QUEUE_FULL. */
  maxQueued?: number
  maxQueuedPerClient?: number
  /**
   * The most workers of the shared pool that run tasks of one client (a connection, with all its streams) at once. The others
   * stay free for other clients. Default: all.
   */
  maxRunningPerClient?: number
  /** How many bytes of arguments may wait in a pool. Default 1 GiB. */
  maxQueuedBytes?: number
  /** How many pools clients may have open at once. Default 1,000. */
  maxPools?: number
  /** How many worker processes all pools may have together. Default 1,024. */
  maxProcesses?: number
  /** How long calls in flight may take to end when the server shuts down, in milliseconds. Default 30000. */
  drainMs?: number
  /**
   * How long a client may not answer the server's pings, in milliseconds, because it computes or stands at a breakpoint. Then
   * its connection ends, and with it its pools and, 5 s later, its calls. Default 300000.
   */
  pingTimeoutMs?: number
  /** Ends the start of the server when it fires: `serve` rejects with CANCELLED when nothing of it is left. Default: none. */
  signal?: AbortSignal
  /** The largest message, in bytes. Default 72 MiB. */
  maxMessageBytes?: number
  /** How many connections may be open; further ones are closed at once. Default 1000. */
  maxConnections?: number
  /** The most open RPCs of one connection; its client keeps further ones back. Default 1000. */
  maxStreams?: number
  /** The most bytes of all headers of a call, 32 more for each header. Default 16384. */
  maxMetadataBytes?: number
  /**
   * The most bytes that the server holds for all its clients: requests without an answer, and answers that have not been
   * read. At least 4 × `maxMessageBytes`. Default: 1 GiB, or a quarter of the memory that this process may use if that is less.
   */
  maxHeldBytes?: number
  /** Whether clients may close and terminate the shared pool. Default false. */
  allowTerminate?: boolean
  /** Whether failures carry the stacks of functions. Default: only where `listen` is a loopback address or a Unix socket. */
  stacks?: boolean
  /** Default 'info'. */
  logLevel?: LogLevel
  /** How the log looks: 'pretty' for people, or 'json', one object for each line. Default: 'pretty' on a terminal, else 'json'. */
  logFormat?: LogFormat
  /**
   * Replaces the workers when a file of the modules has changed: a module, or what it imports by a relative path. For
   * development. Default false.
   */
  watch?: boolean
}

/** The same, checked and complete; the one place where defaults are made. */
export interface ServeConfig extends Required<Omit<ServeOptions, Unlimited | 'modules' | 'signal'>> {
  /** Absolute paths of files that exist. */
  modules: readonly string[]
  maxTasksPerChild: number | undefined
  maxHeapMb: number | undefined
  maxRunningPerClient: number | undefined
}

type Unlimited = 'maxTasksPerChild' | 'maxHeapMb' | 'maxRunningPerClient'

/** Throws a Failure (BAD_REQUEST, MODULE_LOAD_FAILED) that names the option, its value and what would be right. */
export function resolveConfig(options: ServeOptions): ServeConfig {
  const listen = options.listen ?? '127.0.0.1:50051'
  checkAddress('listen', listen)
  if (options.modules.length === 0) bad('modules', '[]', 'at least one path to a module of functions')
  const config: ServeConfig = {
    modules: options.modules.map(modulePath),
    listen,
    processes: options.processes ?? availableCpus(),
    initializer: options.initializer ?? '',
    initargs: options.initargs ?? [],
    maxTasksPerChild: options.maxTasksPerChild,
    graceMs: timer(options.graceMs ?? GRACE_MS),
    startTimeoutMs: timer(options.startTimeoutMs ?? START_MS),
    drainMs: timer(options.drainMs ?? 30_000),
    runTimeoutMs: options.runTimeoutMs ?? 0,
    pingTimeoutMs: timer(options.pingTimeoutMs ?? PING_TIMEOUT_MS),
    maxHeapMb: options.maxHeapMb,
    workerNice: options.workerNice ?? WORKER_NICE,
    maxRssMb: options.maxRssMb ?? 0,
    maxQueued: options.maxQueued ?? MAX_QUEUED,
    maxQueuedPerClient: options.maxQueuedPerClient ?? options.maxQueued ?? MAX_QUEUED,
    maxRunningPerClient: options.maxRunningPerClient,
    maxQueuedBytes: options.maxQueuedBytes ?? MAX_QUEUED_BYTES,
    maxPools: options.maxPools ?? MAX_POOLS,
    maxProcesses: options.maxProcesses ?? MAX_PROCESSES,
    maxMessageBytes: options.maxMessageBytes ?? MAX_MESSAGE_BYTES,
    maxHeldBytes: options.maxHeldBytes ?? heldBytes(options.maxMessageBytes ?? MAX_MESSAGE_BYTES),
    maxConnections: options.maxConnections ?? MAX_CONNECTIONS,
    maxStreams: options.maxStreams ?? MAX_STREAMS,
    maxMetadataBytes: options.maxMetadataBytes ?? MAX_METADATA_BYTES,
    allowTerminate: options.allowTerminate ?? false,
    stacks: options.stacks ?? isLoopback(listen),
    logLevel: options.logLevel ?? 'info',
    logFormat: options.logFormat ?? (process.stderr.isTTY ? 'pretty' : 'json'),
    watch: options.watch ?? false,
  }
  checkCount('max-processes', config.maxProcesses)
  checkCount('processes', config.processes, config.maxProcesses)
  if (config.maxTasksPerChild !== undefined) checkCount('max-tasks-per-child', config.maxTasksPerChild)
  if (config.maxHeapMb !== undefined) checkCount('max-heap-mb', config.maxHeapMb)
  if (config.maxRunningPerClient !== undefined)
    checkCount('max-running-per-client', config.maxRunningPerClient, MAX_PROCESSES)
  for (const [name, value] of [
    ['max-queued', config.maxQueued],
    ['max-queued-per-client', config.maxQueuedPerClient],
    ['max-queued-bytes', config.maxQueuedBytes],
  ] as const) {
    checkCount(name, value)
  }
  for (const [name, value] of [
    ['max-rss-mb', config.maxRssMb],
    ['max-pools', config.maxPools],
  ] as const) {
    if (!(Number.isSafeInteger(value) && value >= 0)) bad(name, value, 'an integer, 0 or more')
  }
  if (!(Number.isInteger(config.workerNice) && config.workerNice >= 0 && config.workerNice <= MAX_NICENESS))
    bad('worker-nice', config.workerNice, `an integer, from 0 to ${MAX_NICENESS}`)
  // It travels on to a worker in a frame, with what stands around it.
  checkCount('max-message-bytes', config.maxMessageBytes, MAX_FRAME_BYTES / 2)
  if (!(Number.isSafeInteger(config.maxHeldBytes) && config.maxHeldBytes >= MESSAGES_HELD * config.maxMessageBytes)) {
    const least = `${MESSAGES_HELD} × max-message-bytes, ${MESSAGES_HELD * config.maxMessageBytes}, or more`
    bad('max-held-bytes', config.maxHeldBytes, least)
  }
  checkCount('ping-timeout', config.pingTimeoutMs)
  checkCount('max-connections', config.maxConnections)
  checkCount('max-streams', config.maxStreams, 2 ** 31 - 1)
  // HTTP/2 carries no header of more than 64 KiB.
  checkCount('max-metadata-bytes', config.maxMetadataBytes, 65_535)
  for (const [name, value] of [
    ['grace', config.graceMs],
    ['start-timeout', config.startTimeoutMs],
    ['drain', config.drainMs],
    ['run-timeout', config.runTimeoutMs],
  ] as const) {
    if (!(Number.isInteger(value) && value >= 0)) bad(name, value, 'a number of milliseconds, 0 or more')
  }
  if (!Array.isArray(config.initargs)) bad('initargs', JSON.stringify(config.initargs), 'an array')
  if (config.initargs.length > 0 && config.initializer === '')
    bad('initargs', JSON.stringify(config.initargs), 'given together with an initializer')
  if (!LOG_LEVELS.includes(config.logLevel)) bad('log-level', config.logLevel, `one of ${LOG_LEVELS.join(', ')}`)
  if (!LOG_FORMATS.includes(config.logFormat)) bad('log-format', config.logFormat, `one of ${LOG_FORMATS.join(', ')}`)
  return config
}

/** A timer of Node holds at most 24.8 days; a longer one would fire at once. */
const timer = (ms: number): number => Math.min(ms, MAX_TIMER_MS)

const heldBytes = (maxMessageBytes: number): number =>
  Math.max(MESSAGES_HELD * maxMessageBytes, Math.min(MAX_HELD_BYTES, Math.floor(availableMemory() / 4)))

/** The budget must hold this many of the largest messages: one client may use half of it, and has one more on its way. */
const MESSAGES_HELD = 4

function bad(option: string, value: unknown, right: string): never {
  throw new Failure('BAD_REQUEST', `${option} is ${value}; it must be ${right}`)
}
