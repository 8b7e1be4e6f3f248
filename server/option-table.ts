import * as v from 'valibot'
import { GRACE_MS, START_MS } from '../pool/defaults.js'
import { MAX_PROCESSES } from '../pool/pools.js'
import { MAX_NICENESS } from '../pool/process/priority.js'
import { addressFault } from '../wire/address.js'
import { MAX_FRAME_BYTES, PING_TIMEOUT_MS } from '../wire/protocol.js'
import { LOG_FORMATS, LOG_LEVELS } from './ops/log.js'

/**
 * The options of a server: the one table behind the flags of `farpool serve`, the variables FARPOOL_…, the configuration
 * file, the help, docs/reference/cli.md and the checks of `serve()`.
 *
 * An option has one name: `max-queued` is `--max-queued`, FARPOOL_MAX_QUEUED, `max-queued:` in a file, and `maxQueued` in
 * a program. Times are in milliseconds; in a program their names end in Ms.
 */
export interface OptionSpec {
  readonly name: string
  readonly short?: string
  /** The placeholder of the value in the help; none for a boolean. */
  readonly value?: string
  /** What the option is for, in the help. */
  readonly about: string
  /** What a value must be. Messages continue a sentence: "it must be …". */
  readonly schema: v.GenericSchema
  /** The default, or words for it if the server chooses it (server/resolve-config.ts). */
  readonly default?: unknown
  readonly defaultWords?: string
  /** Its value may hold secrets, so it is not printed. */
  readonly isSecret?: true
  /** Its value is a path. In a configuration file it is relative to the file. */
  readonly isPath?: true
  /** Each named pool may have a value of its own. */
  readonly ofPool?: true
}

/** An integer from `least` to `most`. */
export function integer(least: number, most = Number.MAX_SAFE_INTEGER) {
  const must = `must be an integer, ${most === Number.MAX_SAFE_INTEGER ? `${least} or more` : `from ${least} to ${most}`}`
  return v.pipe(v.number(must), v.safeInteger(must), v.minValue(least, must), v.maxValue(most, must))
}

const MS = 'must be a number of milliseconds, 0 or more'
const milliseconds = v.pipe(v.number(MS), v.safeInteger(MS), v.minValue(0, MS))
export const boolean = v.boolean('must be true or false')
export const text = (must: string) => v.pipe(v.string(must), v.nonEmpty(must))
const oneOf = <const T extends string>(values: readonly T[]) =>
  v.picklist(values, `must be one of ${values.join(', ')}`)
const file = text('must be the path of a file')
const array = v.array(v.unknown(), 'must be a JSON array')

const NAMES = "must be names of environment variables, as in AWS_REGION or AWS_*, or '*'"
const USER = 'must be the numbers of a user other than root and of a group, such as 1000:1000'
const MODE = 'must be the permissions of a file in octal digits, as a text, such as 0600 or 0660'

const address = v.pipe(
  v.string('must be host:port, [ipv6]:port or unix:/path'),
  v.check(
    (value) => addressFault('listen', value) === undefined,
    ({ input }) => addressFault('listen', input) ?? '',
  ),
)

export const OPTIONS = {
  listen: {
    name: 'listen',
    short: 'l',
    value: '<address>',
    about: 'where to listen: host:port or unix:/path',
    schema: address,
    default: '127.0.0.1:50051',
  },
  tlsCert: {
    name: 'tls-cert',
    value: '<file>',
    about: 'PEM file of the certificate, with those between it and its CA; read again when it changes',
    schema: file,
    defaultWords: 'no TLS',
    isPath: true,
  },
  tlsKey: {
    name: 'tls-key',
    value: '<file>',
    about: 'PEM file of the private key of the certificate',
    schema: file,
    defaultWords: 'no TLS',
    isPath: true,
  },
  tlsClientCa: {
    name: 'tls-client-ca',
    value: '<file>',
    about: 'PEM file of CAs: each client must have a certificate of one of them',
    schema: file,
    defaultWords: 'clients need no certificate',
    isPath: true,
  },
  tokens: {
    name: 'tokens',
    value: '<file>',
    about: 'a YAML file of the tokens that clients need, and of what each may do; read again when it changes',
    schema: file,
    defaultWords: 'clients need no token',
    isPath: true,
  },
  insecure: {
    name: 'insecure',
    about: 'listen beyond loopback and Unix sockets also without TLS, or without tokens and a client CA',
    schema: boolean,
    default: false,
  },
  socketMode: {
    name: 'socket-mode',
    value: '<mode>',
    about: 'the permissions of a Unix socket; users that may write to it may connect',
    schema: v.pipe(v.string(MODE), v.regex(/^0?[0-7]{3}$/, MODE)),
    default: '0600',
  },
  processes: {
    name: 'processes',
    short: 'p',
    value: '<n>',
    about: 'worker processes of the shared pool',
    schema: integer(1, MAX_PROCESSES),
    defaultWords: 'one per CPU that this process may use',
    ofPool: true,
  },
  initializer: {
    name: 'initializer',
    value: '<function>',
    about: 'a function that each worker of the shared pool calls once when it starts',
    schema: text('must be the name of a function'),
    defaultWords: 'none',
    ofPool: true,
  },
  initargs: {
    name: 'initargs',
    value: '<json>',
    about: 'the arguments of the initializer, as a JSON array',
    schema: array,
    defaultWords: 'none',
    isSecret: true,
    ofPool: true,
  },
  initargsFile: {
    name: 'initargs-file',
    value: '<file>',
    about: 'a file with them: other programs of the machine can read a command line',
    schema: file,
    defaultWords: 'none',
    isPath: true,
    ofPool: true,
  },
  maxTasksPerChild: {
    name: 'max-tasks-per-child',
    value: '<n>',
    about: 'replace a worker after this many tasks, for example because a function leaks memory',
    schema: integer(1),
    defaultWords: 'never',
    ofPool: true,
  },
  graceMs: {
    name: 'grace',
    value: '<ms>',
    about: 'time for a cancelled function to end by itself, in milliseconds; then its process is killed',
    schema: milliseconds,
    default: GRACE_MS,
    ofPool: true,
  },
  startTimeoutMs: {
    name: 'start-timeout',
    value: '<ms>',
    about: 'longest start of a worker (modules and initializer), in milliseconds; then it is killed; 0: no limit',
    schema: milliseconds,
    default: START_MS,
    ofPool: true,
  },
  runTimeoutMs: {
    name: 'run-timeout',
    value: '<ms>',
    about: 'longest run of a task, in milliseconds, if neither its call nor its function sets a limit; 0: no limit',
    schema: milliseconds,
    default: 0,
    ofPool: true,
  },
  maxHeapMb: {
    name: 'max-heap-mb',
    value: '<n>',
    about: 'largest JavaScript heap of a worker, in MiB; a function that needs more fails with WORKER_OOM',
    schema: integer(1),
    defaultWords: 'chosen by Node',
    ofPool: true,
  },
  workerNice: {
    name: 'worker-nice',
    value: '<n>',
    about: 'lower CPU priority of workers, so that the server stays responsive: 0 (equal) to 19 (lowest)',
    schema: integer(0, MAX_NICENESS),
    default: 5,
  },
  workerEnv: {
    name: 'worker-env',
    value: '<names>',
    about: "environment variables that workers get besides the usual ones, with commas between them; '*' for all",
    schema: v.array(v.pipe(v.string(NAMES), v.regex(/^([A-Za-z_]\w*\*?|\*)$/, NAMES)), NAMES),
    defaultWords: 'none',
  },
  workerUser: {
    name: 'worker-user',
    value: '<uid:gid>',
    about: 'the user and the group that workers run as, as numbers; the server must run as root',
    schema: v.pipe(
      v.string(USER),
      v.regex(/^[1-9]\d*:\d+$/, USER),
      v.check((ids) => ids.split(':').every((id) => Number(id) < 2 ** 31), USER),
    ),
    defaultWords: 'those of the server',
  },
  maxRssMb: {
    name: 'max-rss-mb',
    value: '<n>',
    about: 'replace a worker after a task if its resident memory exceeds this many MiB; 0: never',
    schema: integer(0),
    default: 0,
    ofPool: true,
  },
  maxQueued: {
    name: 'max-queued',
    value: '<n>',
    about: 'most tasks that wait in one pool; further ones fail with QUEUE_FULL',
    schema: integer(1),
    // A task takes some 300 bytes besides its arguments.
    default: 1_000_000,
    ofPool: true,
  },
  maxQueuedPerClient: {
    name: 'max-queued-per-client',
    value: '<n>',
    about: 'most tasks of one client that wait in a pool',
    schema: integer(1),
    defaultWords: 'the value of --max-queued',
    ofPool: true,
  },
  maxRunningPerClient: {
    name: 'max-running-per-client',
    value: '<n>',
    about: 'most workers of the shared pool that one client occupies at once',
    schema: integer(1, MAX_PROCESSES),
    defaultWords: 'all',
    ofPool: true,
  },
  maxQueuedBytes: {
    name: 'max-queued-bytes',
    value: '<n>',
    about: 'most bytes of arguments that wait in one pool; further tasks fail with QUEUE_FULL',
    schema: integer(1),
    default: 1024 * 1024 * 1024,
    ofPool: true,
  },
  maxPools: {
    name: 'max-pools',
    value: '<n>',
    about: 'most pools that all clients together have open, beside the shared pools',
    schema: integer(0),
    default: 1_000,
  },
  maxProcesses: {
    name: 'max-processes',
    value: '<n>',
    about: 'most worker processes of all pools together',
    schema: integer(1),
    default: MAX_PROCESSES,
  },
  drainMs: {
    name: 'drain',
    value: '<ms>',
    about: 'time for calls in flight to end after SIGTERM or SIGINT, in milliseconds; then they fail',
    schema: milliseconds,
    default: 30_000,
  },
  pingTimeoutMs: {
    name: 'ping-timeout',
    value: '<ms>',
    about: 'time that a client may be silent, for example at a breakpoint, in milliseconds; then its connection ends',
    schema: integer(1),
    default: PING_TIMEOUT_MS,
  },
  maxMessageBytes: {
    name: 'max-message-bytes',
    value: '<n>',
    about: 'largest message that the server takes or sends, in bytes',
    // It travels on to a worker in a frame, with what stands around it.
    schema: integer(1, MAX_FRAME_BYTES / 2),
    defaultWords: '72 MiB, or less where there is little memory',
  },
  maxHeldBytes: {
    name: 'max-held-bytes',
    value: '<n>',
    about: 'memory for the requests and unread results of all clients together, in bytes',
    schema: integer(1),
    defaultWords: '1 GiB, or a quarter of the memory that is left beside the server and its workers',
  },
  maxConnections: {
    name: 'max-connections',
    value: '<n>',
    about: 'most open connections; beyond it those that are idle are closed, or new ones get health checks only',
    schema: integer(1),
    defaultWords: '1000, or fewer where there is little memory',
  },
  maxConnectionsPerAddress: {
    name: 'max-connections-per-address',
    value: '<n>',
    about: 'most open connections from one IP address',
    schema: integer(1),
    defaultWords: 'no limit but --max-connections',
  },
  maxStreams: {
    name: 'max-streams',
    value: '<n>',
    about: 'most open calls of one connection; a stream of many calls counts as one',
    schema: integer(1, 2 ** 31 - 1),
    // A farpool client needs one or two streams for all its calls; a plain stub needs one for each. An open stream takes
    // 6 KiB and may hold a message.
    default: 1_000,
  },
  maxMetadataBytes: {
    name: 'max-metadata-bytes',
    value: '<n>',
    about: 'most bytes of headers of one call, 32 more for each header',
    // HTTP/2 carries no header of more than 64 KiB. Python and Go have the same default.
    schema: integer(1, 65_535),
    default: 16 * 1024,
  },
  allowTerminate: {
    name: 'allow-terminate',
    about: 'let clients close and terminate the shared pools',
    schema: boolean,
    default: false,
  },
  reflection: {
    name: 'reflection',
    about: 'offer gRPC reflection, so that tools like grpcurl need no .proto files',
    schema: boolean,
    defaultWords: 'only on loopback addresses and Unix sockets, and without tokens',
  },
  stacks: {
    name: 'stacks',
    about: 'send the stack traces of functions to clients',
    schema: boolean,
    defaultWords: 'only on loopback addresses and Unix sockets',
  },
  logLevel: {
    name: 'log-level',
    value: '<level>',
    about: 'the least severe messages to log; worker output is logged at every level but silent',
    schema: oneOf(LOG_LEVELS),
    default: 'info',
  },
  logFormat: {
    name: 'log-format',
    value: '<format>',
    about: 'how the log looks: text for people, or one JSON object for each line',
    schema: oneOf(LOG_FORMATS),
    defaultWords: 'pretty on a terminal, else json',
  },
  watch: {
    name: 'watch',
    about: 'for development: replace the workers when a module, or a file that it imports, has changed',
    schema: boolean,
    default: false,
  },
} as const satisfies Record<string, OptionSpec>

export type OptionKey = keyof typeof OPTIONS

export const OPTION_KEYS = Object.keys(OPTIONS) as OptionKey[]

export const specOf = (key: OptionKey): OptionSpec => OPTIONS[key]

/** The options that a named pool may set for itself. */
export const POOL_KEYS = OPTION_KEYS.filter((key) => specOf(key).ofPool)

/** The value of an option; undefined where there is no default and the option is not given. */
export type OptionValue<K extends OptionKey> =
  | v.InferOutput<(typeof OPTIONS)[K]['schema']>
  | ((typeof OPTIONS)[K] extends { readonly default: unknown } ? never : undefined)

/** FARPOOL_MAX_QUEUED for max-queued. */
export const environmentName = (name: string): string => `FARPOOL_${name.toUpperCase().replaceAll('-', '_')}`
