import { checkAddress, isLoopback } from '../wire/address.js'
import { nearest } from '../wire/nearest.js'
import { described } from '../wire/values/value-errors.js'
import { badRequest, toError } from './errors.js'

/** The options of multiprocessing.Pool, with Python's names. With any of them, the Pool opens a pool of its own. */
export interface OwnedPoolOptions {
  /** The number of worker processes; an integer of 1 or more. Default: that of the shared pool. */
  processes?: number
  /** The name of a function that each worker process calls when it starts. */
  initializer?: string
  /** The arguments of the initializer. Default: none. */
  initargs?: readonly unknown[]
  /** The server replaces a worker after this number of tasks; an integer of 1 or more. A chunk is one task. Default: never. */
  maxtasksperchild?: number
}

/** PEM: as text, as bytes, or as the path or `file:` URL of a file. */
export type PemSource = string | URL | Uint8Array

/** TLS. Files are read again for each new connection, so certificates can be replaced while the client runs. */
export interface TlsOptions {
  /** The CAs, one of which must have issued the server's certificate. Default: those that Node trusts. */
  ca?: PemSource
  /**
   * The client's own certificate, for a server that wants one (`--tls-client-ca`), followed by those between it and its CA.
   * Default: none.
   */
  cert?: PemSource
  /** The private key of `cert`, without a passphrase. */
  key?: PemSource
  /** The name that the server's certificate must have. Default: the host of the address; for a Unix socket `localhost`. */
  serverName?: string
}

/** Which pool of the server this client uses, and how it talks to the server. */
export interface ClientOptions {
  /**
   * The name of a shared pool of the server. A pool of this client's own is made from it: with its functions and settings.
   * Default: 'default', which every server has.
   */
  pool?: string
  /** The encoding. 'cbor' (default) carries all values of docs/reference/values.md, 'json' those that JSON has. */
  encoding?: 'cbor' | 'json'
  /**
   * 'stream' (default) sends many calls in one stream. 'unary' makes one RPC for each call, so that a proxy can spread the
   * calls over several servers.
   */
  transport?: 'stream' | 'unary'
  /** Encrypts the connection and checks the certificate of the server; `true` stands for `{}`. Default: no TLS. */
  tls?: boolean | TlsOptions
  /**
   * The token with which this client identifies itself. A function is called for each new stream or RPC, so it can give a new
   * token when the old one expires. Beyond this machine it needs an encrypted connection.
   */
  token?: string | (() => string | Promise<string>)
}

export type Token = NonNullable<ClientOptions['token']>

export type PoolOptions = OwnedPoolOptions & ClientOptions

/** When a call that failed is made again. Only for functions that may run twice. */
export interface RetryOptions {
  /** How often at most, each call or item for itself; an integer of 0 or more. */
  times: number
  /** The pause before the first of them, in milliseconds. Default: 0. */
  delay?: number
  /** Each pause is this many times as long as the one before; 1 or more. Default: 1. */
  backoff?: number
  /** Whether the call is made again after this error. Default: after every RemoteError, which is what functions throw. */
  on?: (error: unknown) => boolean
}

/** The options of every call. A time of more than 24.8 days counts as no limit. */
export interface CallOptions {
  /**
   * How long the call may take in all, in milliseconds: in the queue and running. After it, the call fails with
   * TimeoutError and the server cancels it. For imap and imapUnordered: how long each chunk may take, from when it is first
   * sent; with a timeout, as many chunks are under way as the pool has processes. Default: no limit.
   */
  timeout?: number
  /** How long the call, or each chunk of a map, may wait for a worker, in milliseconds. Default: no limit. */
  queueTimeout?: number
  /**
   * How long the function may run for the call, or for each chunk of a map, in milliseconds. Default: the limit that the
   * function's module sets, otherwise the server's.
   */
  runTimeout?: number
  /**
   * Cancels the call when it fires. A queued call is dropped. If the function is running, its own AbortSignal fires, and
   * its process is killed if it still runs after the server's grace.
   */
  signal?: AbortSignal
  /**
   * How often the call is run again if its worker dies; an integer of 0 or more. Only for functions that may run twice.
   * Default: the number that the function's module sets, otherwise 0.
   */
  retries?: number
  /**
   * Makes the call, or the items of a map that failed, again if the function throws. The client does that: `timeout`
   * covers all attempts. Default: never.
   */
  retry?: RetryOptions
}

export interface AsyncOptions<R> extends CallOptions {
  /** Called once with the result, before `get` resolves. What it throws, or rejects with, becomes a warning. */
  callback?: (value: R) => unknown
  /** Called once with the error, before `get` rejects. What it throws, or rejects with, becomes a warning. */
  errorCallback?: (error: unknown) => unknown
}

/** How far a map or imap has come. */
export interface Progress {
  /** How many items have ended, with a result or an error. */
  done: number
  /** The number of items; undefined while an imap does not know the end of its input. */
  total: number | undefined
  /** Items that ended per second, since the call began. */
  rate: number
}

/** The options of map, starmap, imap and imapUnordered. */
export interface ItemsOptions extends CallOptions {
  /** Called when a chunk has ended. What it throws, or rejects with, becomes a warning. */
  onProgress?: (progress: Progress) => unknown
}

export interface MapOptions extends ItemsOptions {
  /**
   * The number of items in a task; an integer of 1 or more. Default: ceil(items / (4 × processes)), as in Python, but
   * fewer if they would have more than 8 MiB in all, as far as a sample of them tells.
   */
  chunksize?: number
  /**
   * True: the map fails as soon as one item fails, and the rest is cancelled. False (default): all items run; then the map
   * fails with the error of the first item that failed.
   */
  failFast?: boolean
  /** True: resolve with one outcome per item, as Promise.allSettled. Default: false. */
  settle?: boolean
}

export interface MapAsyncOptions<R> extends MapOptions, AsyncOptions<R> {}

export interface ImapOptions extends ItemsOptions {
  /** The number of items in a task; an integer of 1 or more. Default: 1, as in Python. */
  chunksize?: number
  /**
   * True: yield an outcome for each item, with its index in the input, so that a `for await` goes on behind an item that
   * failed. Default: false.
   */
  settle?: boolean
}

/** What imap and imapUnordered yield with `settle`. */
export type ItemOutcome<R> =
  | { readonly index: number; readonly status: 'fulfilled'; readonly value: R }
  | { readonly index: number; readonly status: 'rejected'; readonly reason: unknown }

/** Whether the options ask for a pool of this client's own. */
export const isOwned = (options: PoolOptions): boolean =>
  options.processes !== undefined ||
  options.initializer !== undefined ||
  options.initargs !== undefined ||
  options.maxtasksperchild !== undefined

/** @throws BadRequestError that says what is wrong with the address of a server, and what would be right. */
export function checkServerAddress(address: string): void {
  try {
    checkAddress('address', address)
  } catch (error) {
    throw toError(error)
  }
}

/** @throws BadRequestError if the token would travel over a network that anybody may read. */
export function checkTokenIsSafe(address: string, options: PoolOptions): void {
  const isEncrypted = Boolean(options.tls)
  if (options.token === undefined || isEncrypted || isLoopback(address)) return
  throw badRequest(
    `token is given for ${address}, and would travel there unencrypted; set tls, or use a loopback address or a Unix socket`,
  )
}

/** What an option must be: a test, and the words for the message. */
interface Rule {
  readonly test: (value: unknown) => boolean
  readonly must: string
  /** Messages do not show its value. */
  readonly isSecret?: true
}
type Rules = Readonly<Record<string, Rule>>

const atLeast = (least: number): Rule => ({
  test: (value) => Number.isSafeInteger(value) && (value as number) >= least,
  must: `must be an integer, ${least} or more`,
})
const oneOf = (...values: readonly string[]): Rule => ({
  test: (value) => values.includes(value as string),
  must: `must be ${values.map((value) => `'${value}'`).join(' or ')}`,
})
const ofType = (type: 'boolean' | 'function'): Rule => ({
  test: (value) => typeof value === type,
  must: `must be a ${type}`,
})
const MILLISECONDS: Rule = {
  test: (value) => typeof value === 'number' && value >= 0,
  must: 'must be a number of milliseconds, 0 or more',
}

const isName = (value: unknown): boolean => typeof value === 'string' && value !== ''

const OWNED_POOL: Rules = {
  processes: atLeast(1),
  initializer: {
    test: isName,
    must: 'must be the name of a function that a module exports',
  },
  initargs: { test: Array.isArray, must: 'must be an array of arguments' },
  maxtasksperchild: atLeast(1),
}
export const TOKEN_FORM = 'must be visible ASCII characters, without spaces or line ends'
/** Whether metadata can carry it. */
export const isToken = (value: unknown): value is string => typeof value === 'string' && /^[!-~]+$/.test(value)
const ENCODING: Rules = { encoding: oneOf('cbor', 'json') }
const TOKEN: Rule = {
  test: (value) => typeof value === 'function' || isToken(value),
  must: `${TOKEN_FORM}, or a function that returns them`,
  isSecret: true,
}
const REMOTE_POOL: Rules = {
  pool: { test: isName, must: 'must be the name of a shared pool of the server' },
  ...OWNED_POOL,
  ...ENCODING,
  transport: oneOf('stream', 'unary'),
  token: TOKEN,
  tls: {
    test: (value) => typeof value === 'boolean' || isObject(value),
    must: "must be true, false or an object, such as { ca: './ca.pem' }",
  },
}
const PEM: Rule = {
  test: (value) => (typeof value === 'string' && value !== '') || value instanceof URL || value instanceof Uint8Array,
  must: 'must be PEM as text or bytes, or the path or URL of a file with it',
}
const TLS: Rules = {
  ca: PEM,
  cert: PEM,
  key: PEM,
  serverName: { test: (value) => typeof value === 'string' && value !== '', must: 'must be the name of a host' },
}
const LOCAL_POOL: Rules = {
  ...OWNED_POOL,
  ...ENCODING,
  output: {
    test: (value) => value === 'inherit' || value === 'ignore' || typeof value === 'function',
    must: "must be 'inherit', 'ignore' or a function",
  },
  graceMs: atLeast(0),
  startTimeoutMs: atLeast(0),
  maxHeapMb: atLeast(1),
}
const RETRY: Rules = {
  times: atLeast(0),
  delay: MILLISECONDS,
  backoff: { test: (value) => typeof value === 'number' && value >= 1, must: 'must be a number, 1 or more' },
  on: ofType('function'),
}
const CALL: Rules = {
  timeout: MILLISECONDS,
  queueTimeout: MILLISECONDS,
  runTimeout: MILLISECONDS,
  signal: {
    // Not by its class: a program may have several realms.
    test: (value) => typeof value === 'object' && value !== null && 'aborted' in value && 'addEventListener' in value,
    must: 'must be an AbortSignal',
  },
  retries: atLeast(0),
  retry: { test: isObject, must: 'must be an object, such as { times: 2 }' },
}
const CALLBACKS: Rules = { callback: ofType('function'), errorCallback: ofType('function') }
const ITEMS: Rules = { ...CALL, chunksize: atLeast(1), settle: ofType('boolean'), onProgress: ofType('function') }

/** The options that each method takes. */
const RULES = {
  'new Pool': REMOTE_POOL,
  'Pool.local': LOCAL_POOL,
  with: CALL,
  apply: { ...CALL, ...CALLBACKS },
  map: { ...ITEMS, failFast: ofType('boolean'), ...CALLBACKS },
  imap: ITEMS,
} as const satisfies Record<string, Rules>

/**
 * Checks the options of a method or a pool.
 * @throws BadRequestError for the first option that is invalid or not known.
 */
export function checkOptions(method: keyof typeof RULES, options: unknown): void {
  check(method, 'options', RULES[method], options)
}

function check(method: string, what: string, rules: Rules, options: unknown): void {
  if (!isObject(options)) throw badRequest(`the ${what} of ${method} are ${described(options)}; they must be an object`)
  for (const name in options) {
    const value = options[name]
    const rule = Object.hasOwn(rules, name) ? rules[name] : undefined
    if (rule === undefined) throw badRequest(unknownOption(method, name, Object.keys(rules)))
    if (value === undefined || rule.test(value)) continue
    throw badRequest(`${name} is ${rule.isSecret ? 'of the wrong form' : described(value)}; it ${rule.must}`)
  }
  if (options['initargs'] !== undefined && options['initializer'] === undefined) {
    throw badRequest('initargs were given without an initializer')
  }
  const { retry, tls } = options
  if (isObject(tls)) check(method, 'tls options', TLS, tls)
  if (retry === undefined || rules === RETRY) return
  check(method, 'retry options', RETRY, retry)
  if ((retry as RetryOptions).times === undefined) throw badRequest(`retry has no times; it ${atLeast(0).must}`)
}

function unknownOption(method: string, name: string, known: readonly string[]): string {
  const [near] = nearest(name, known)
  return `${method} has no option ${name}; ${near ? `did you mean ${near}?` : `it has ${known.join(', ')}`}`
}

/** An object of options or keyword arguments: no array, no Map, no Date. */
export function isObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false
  return Object.prototype.toString.call(value) === '[object Object]'
}

/** @throws BadRequestError if the time is given and is not a number of milliseconds, 0 or more. */
export function checkTimeout(timeout: unknown): void {
  if (timeout === undefined || MILLISECONDS.test(timeout)) return
  throw badRequest(`timeout is ${described(timeout)}; it ${MILLISECONDS.must}`)
}
