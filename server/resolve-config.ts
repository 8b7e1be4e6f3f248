import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import * as v from 'valibot'
import { modulePath } from '../pool/defaults.js'
import { DEFAULT_POOL } from '../pool/engine.js'
import { availableCpus } from '../pool/process/available-cpus.js'
import { isLoopback } from '../wire/address.js'
import { Failure } from '../wire/failure.js'
import { nearest } from '../wire/nearest.js'
import { MAX_TIMER_MS } from '../wire/protocol.js'
import { truncateUtf8 } from '../wire/truncate.js'
import { reasonOf } from '../wire/values/value-errors.js'
import type { PoolConfig, ServeConfig, ServeOptions, SharedPoolOptions } from './config.js'
import { CONNECTION_BYTES, MAX_CONNECTIONS } from './limits/memory-budget.js'
import { memoryLeft } from './ops/host-limits.js'
import { defaultLogFormat } from './ops/log.js'
import { OPTION_KEYS, OPTIONS, type OptionKey, type OptionValue, POOL_KEYS, specOf } from './option-table.js'

/**
 * The most bytes that a server holds for all its clients (server/limits/memory-budget.ts), unless there is less memory. One
 * client alone can use half of it. At twice the limit the connection or stream that holds most is cut off. So a quarter of the
 * memory that is left becomes a half at most, and the other half remains for functions and garbage.
 */
const MAX_HELD_BYTES = 1024 * 1024 * 1024
const HELD_PART = 1 / 4

/** Connections take at most this part of the memory that is left. */
const CONNECTIONS_PART = 1 / 8

/** The default of max-message-bytes: a payload of 64 MiB, with room for what stands around it. */
const MAX_MESSAGE_BYTES = 72 * 1024 * 1024

/** The budget must hold this many of the largest messages: one client may use half of it, and has one more on its way. */
const MESSAGES_HELD = 4

/** How messages name an option: as it was given. */
export type OptionLabel = (key: OptionKey | 'modules' | 'pools', pool?: string) => string

const byName: OptionLabel = (key, pool) => {
  const name = key === 'modules' || key === 'pools' ? key : OPTIONS[key].name
  return pool === undefined ? name : inPool(name, pool)
}

/** An option of a named pool, or the pool itself. */
export const inPool = (name: string, pool: string): string =>
  name === 'pools' ? `pools.${pool}` : `pools.${pool}.${name}`

/** Throws a Failure (BAD_REQUEST, MODULE_LOAD_FAILED) that names the option, its value and what would be right. */
export function resolveConfig(options: ServeOptions, label: OptionLabel = byName): ServeConfig {
  checkNames(options, [...OPTION_KEYS, 'modules', 'pools', 'signal'], '')
  const of: Reader = (key) => checked(key, options[key], label(key))
  // Before the modules: a wrong option is a mistake in the command, a missing file may be none.
  for (const key of OPTION_KEYS) of(key)
  const own = poolConfig(options, {}, label)
  const maxProcesses = of('maxProcesses')
  const pools = new Map([[DEFAULT_POOL, own], ...namedPools(options, label)])
  const processes = processesOf(pools)
  if (processes > maxProcesses) {
    const which = pools.size === 1 ? label('processes') : 'the number of processes of all shared pools'
    bad(which, processes, `must be an integer, from 1 to ${maxProcesses} (${label('maxProcesses')})`)
  }
  checkTls(of, label)
  checkExposure(of, label)
  const path = (key: 'tlsCert' | 'tlsKey' | 'tlsClientCa' | 'tokens') => {
    const file = of(key)
    return file === undefined ? undefined : resolve(file)
  }
  const left = memoryLeft(processes)
  const held = of('maxHeldBytes')
  const usual = Math.floor(Math.min(MAX_HELD_BYTES, left * HELD_PART))
  const maxMessageBytes =
    of('maxMessageBytes') ?? Math.max(1, Math.floor(Math.min(MAX_MESSAGE_BYTES, (held ?? usual) / MESSAGES_HELD)))
  const maxHeldBytes = held ?? Math.max(usual, MESSAGES_HELD * maxMessageBytes)
  if (maxHeldBytes < MESSAGES_HELD * maxMessageBytes) {
    const least = `must be ${MESSAGES_HELD} × max-message-bytes, ${MESSAGES_HELD * maxMessageBytes}, or more`
    bad(label('maxHeldBytes'), maxHeldBytes, least)
  }
  const maxConnections =
    of('maxConnections') ?? Math.floor(Math.min(MAX_CONNECTIONS, (left * CONNECTIONS_PART) / CONNECTION_BYTES))
  return {
    ...own,
    pools,
    listen: of('listen'),
    tlsCert: path('tlsCert'),
    tlsKey: path('tlsKey'),
    tlsClientCa: path('tlsClientCa'),
    tokens: path('tokens'),
    insecure: of('insecure'),
    socketMode: of('socketMode'),
    drainMs: timer(of('drainMs')),
    pingTimeoutMs: timer(of('pingTimeoutMs')),
    workerNice: of('workerNice'),
    workerEnv: of('workerEnv') ?? [],
    workerUser: workerUser(of('workerUser'), label('workerUser')),
    maxPools: of('maxPools'),
    maxProcesses,
    maxMessageBytes,
    maxHeldBytes,
    maxConnections,
    maxConnectionsPerAddress: of('maxConnectionsPerAddress'),
    maxStreams: of('maxStreams'),
    maxMetadataBytes: of('maxMetadataBytes'),
    allowTerminate: of('allowTerminate'),
    reflection: of('reflection') ?? (isLoopback(of('listen')) && of('tokens') === undefined),
    stacks: of('stacks') ?? isLoopback(of('listen')),
    logLevel: of('logLevel'),
    logFormat: of('logFormat') ?? defaultLogFormat(),
    watch: of('watch'),
  }
}

/** The workers of all shared pools. */
export const processesOf = (pools: ReadonlyMap<string, PoolConfig>): number =>
  [...pools.values()].reduce((sum, { processes }) => sum + processes, 0)

/** Reads one of the options, checked; its default if it is not given. */
type Reader = <K extends OptionKey>(key: K) => OptionValue<K>

/** @param rest where the options come from that the pool does not set. */
function poolConfig(
  options: SharedPoolOptions,
  rest: Partial<ServeOptions>,
  label: OptionLabel,
  name?: string,
): PoolConfig {
  const of: Reader = (key) => {
    const own = options[key as keyof SharedPoolOptions]
    return own === undefined ? checked(key, rest[key], label(key)) : checked(key, own, label(key, name))
  }
  const initializer = of('initializer') ?? ''
  const initargsFile = of('initargsFile')
  if (initargsFile !== undefined && of('initargs') !== undefined)
    throw new Failure('BAD_REQUEST', `${label('initargs', name)} and ${label('initargsFile', name)} exclude each other`)
  const initargs =
    initargsFile === undefined ? (of('initargs') ?? []) : arrayIn(initargsFile, label('initargsFile', name))
  if (initargs.length > 0 && initializer === '')
    throw new Failure('BAD_REQUEST', `${label('initargs', name)} is given without an initializer`)
  const maxQueued = of('maxQueued')
  return {
    modules: modulePaths(options.modules, label('modules', name)),
    processes: of('processes') ?? availableCpus(),
    initializer,
    initargs,
    initargsFile,
    maxTasksPerChild: of('maxTasksPerChild'),
    graceMs: timer(of('graceMs')),
    startTimeoutMs: timer(of('startTimeoutMs')),
    runTimeoutMs: of('runTimeoutMs'),
    maxHeapMb: of('maxHeapMb'),
    maxRssMb: of('maxRssMb'),
    maxQueued,
    maxQueuedPerClient: of('maxQueuedPerClient') ?? maxQueued,
    maxRunningPerClient: of('maxRunningPerClient'),
    maxQueuedBytes: of('maxQueuedBytes'),
  }
}

function checkTls(of: Reader, label: OptionLabel): void {
  for (const [one, other] of [
    ['tlsCert', 'tlsKey'],
    ['tlsKey', 'tlsCert'],
    ['tlsClientCa', 'tlsCert'],
  ] as const) {
    if (of(one) === undefined || of(other) !== undefined) continue
    throw new Failure('BAD_REQUEST', `${label(one)} is given without ${label(other)}`)
  }
}

/** Every client that can connect can run the functions, so beyond this machine a server has to know its clients. */
function checkExposure(of: Reader, label: OptionLabel): void {
  if (isLoopback(of('listen')) || of('insecure')) return
  const knowsClients = of('tokens') !== undefined || of('tlsClientCa') !== undefined
  if (of('tlsCert') !== undefined && knowsClients) return
  throw new Failure(
    'BAD_REQUEST',
    `${label('listen')} is ${shown(of('listen'))}, which other machines can reach, so clients must be known: ` +
      'give --tls-cert and --tls-key with --tokens or --tls-client-ca; ' +
      'or listen on a loopback address or a Unix socket; ' +
      'or, in a network where everybody may run the functions, give --insecure',
  )
}

const POOLS = 'must be an object of pools by name'
const POOL_NAME = /^[\w.-]{1,64}$/

function namedPools(options: ServeOptions, label: OptionLabel): [string, PoolConfig][] {
  const { pools = {}, initializer, initargs, initargsFile, ...rest } = options
  if (!isObject(pools)) bad(label('pools'), pools, POOLS)
  return Object.entries(pools).map(([name, pool]) => {
    if (name === DEFAULT_POOL || name.startsWith('pool-') || !POOL_NAME.test(name)) {
      const right =
        'up to 64 letters, digits, dots, hyphens and underscores; not "default", and not beginning with "pool-"'
      bad(`a name in ${label('pools')}`, name, `must be ${right}`)
    }
    if (!isObject(pool)) bad(label('pools', name), pool, 'must be an object of options')
    checkNames(pool, [...POOL_KEYS, 'modules'], `pools.${name}: `)
    return [name, poolConfig(pool, rest, label, name)]
  })
}

function modulePaths(modules: unknown, label: string): string[] {
  if (!Array.isArray(modules) || modules.length === 0)
    bad(label, modules, 'must be an array with at least one path to a module of functions')
  return modules.map(modulePath)
}

/** The value of an option, or its default. @throws Failure BAD_REQUEST. */
function checked<K extends OptionKey>(key: K, value: unknown, label: string): OptionValue<K> {
  const spec = specOf(key)
  if (value === undefined) return spec.default as OptionValue<K>
  const result = v.safeParse(spec.schema, value)
  if (result.success) return result.output as OptionValue<K>
  return bad(label, spec.isSecret ? SECRET : value, result.issues[0].message)
}

/** Stands in the place of a value that may hold secrets. */
export const SECRET = '(secret)'

export function checkNames(options: object, known: readonly string[], where: string): void {
  for (const name of Object.keys(options)) {
    if (known.includes(name)) continue
    const [near] = nearest(name, known)
    throw new Failure(
      'BAD_REQUEST',
      `${where}there is no option ${name}; ${near ? `did you mean ${near}?` : `the options are ${known.join(', ')}`}`,
    )
  }
}

export const isObject = (value: unknown): value is object =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** A timer of Node holds at most 24.8 days; a longer one would fire at once. */
const timer = (ms: number): number => Math.min(ms, MAX_TIMER_MS)

/** The JSON array in a file. Messages do not show it, because it may hold secrets. */
function arrayIn(file: string, label: string): unknown[] {
  let value: unknown
  try {
    value = JSON.parse(readFileSync(file, 'utf8'))
  } catch (error) {
    if (!(error instanceof SyntaxError)) bad(label, file, `must be a file that can be read (${reasonOf(error)})`)
  }
  return Array.isArray(value) ? value : bad(label, file, 'must be a file with a JSON array')
}

function workerUser(user: string | undefined, label: string): string | undefined {
  if (user !== undefined && process.getuid?.() !== 0)
    bad(label, user, 'must not be given here: only root may start workers as another user')
  return user
}

/** @param must the end of a sentence, such as "must be an integer". */
export function bad(label: string, value: unknown, must: string): never {
  throw new Failure('BAD_REQUEST', `${label} is ${shown(value)}; it ${must}`)
}

function shown(value: unknown): string {
  if (value === undefined) return 'missing'
  if (value === SECRET) return 'of the wrong form'
  return truncateUtf8(typeof value === 'number' ? String(value) : (JSON.stringify(value) ?? String(value)), 200)
}
