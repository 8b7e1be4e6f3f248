import { Failure } from '../wire/failure.js'
import { MAX_TIMER_MS } from '../wire/protocol.js'
import { errorOf } from './errors.js'

/** The options of multiprocessing.Pool, under Python's names. Any of them makes a pool of this client's own. */
export interface OwnedPoolOptions {
  /** How many worker processes; an integer of 1 or more. Default: as many as the shared pool has. */
  processes?: number
  /** The name of a function that every worker calls when it starts. */
  initializer?: string
  /** Its arguments. */
  initargs?: readonly unknown[]
  /** A worker is replaced by a new one after so many tasks, 1 or more. Default: never. A chunk is one task. */
  maxtasksperchild?: number
}

/** How this client talks to the server. */
export interface ClientOptions {
  /** How values travel: 'cbor' (default) carries all of docs/values.md; 'json' what JSON can. */
  encoding?: 'cbor' | 'json'
  /**
   * 'stream' (default) sends many calls in one stream; 'unary' makes one RPC of each, so that a proxy between client
   * and servers can spread them.
   */
  transport?: 'stream' | 'unary'
}

export type PoolOptions = OwnedPoolOptions & ClientOptions

/** What any call takes. */
export interface CallOptions {
  /**
   * How long the call may take on the server, queued and running, in milliseconds; then it fails with TimeoutError and
   * is cancelled there. Default: without limit. More than 24.8 days is without limit.
   */
  timeout?: number
  /** Of that, how long it may wait for a worker, in milliseconds. A chunk of a map each. Default: without limit. */
  queueTimeout?: number
  /** And how long it may run, in milliseconds. A chunk of a map each. Default: what the function's module says, or the server. */
  runTimeout?: number
  /** Cancels the call: queued, it is dropped; running, the function's own signal fires, and after the grace its process is killed. */
  signal?: AbortSignal
  /** How often the call is run again after its worker died. Default: what the function's module says, or 0. Only for functions that may run twice. */
  retries?: number
}

export interface AsyncOptions<R> extends CallOptions {
  /** Called once with the result, before `get` resolves. */
  callback?: (value: R) => void
  /** Called once with the error, before `get` rejects. */
  errorCallback?: (error: unknown) => void
}

export interface MapOptions extends CallOptions {
  /** Items per task; an integer of 1 or more. Default: ceil(items / (4 × processes)), as in Python. */
  chunksize?: number
  /** Fail with the first failure that comes, and drop the rest. Default false: everything runs, then the first item's failure is thrown. */
  failFast?: boolean
  /** Resolve with one outcome per item, as Promise.allSettled. Default false. */
  settle?: boolean
}

export interface MapAsyncOptions<R> extends MapOptions, AsyncOptions<R> {}

export interface ImapOptions extends Omit<CallOptions, 'timeout'> {
  /** Items per task; an integer of 1 or more. Default 1, as in Python. */
  chunksize?: number
}

/** Throws BadRequestError where a count is not an integer of at least `least`. */
export function checkCount(name: string, value: number | undefined, least = 1): void {
  if (value === undefined || (Number.isSafeInteger(value) && value >= least)) return
  throw badRequest(`${name} is ${String(value)}; it must be an integer, ${least} or more`)
}

/** Throws BadRequestError where a time is no number of milliseconds of 0 or more. */
export function checkTimeout(value: number | undefined, name = 'timeout'): void {
  if (value === undefined || (typeof value === 'number' && value >= 0)) return
  throw badRequest(`${name} is ${String(value)}; it must be a number of milliseconds, 0 or more`)
}

/** The time at which a call that starts now times out; undefined for never. Later than a timer can hold is never. */
export const deadlineOf = (timeout: number | undefined): number | undefined =>
  timeout === undefined || timeout > MAX_TIMER_MS ? undefined : Date.now() + timeout

export const badRequest = (message: string) => errorOf(new Failure('BAD_REQUEST', message))

/** Throws BadRequestError for what is wrong with the options of a pool. */
export function checkPoolOptions(options: PoolOptions): void {
  checkCount('processes', options.processes)
  checkCount('maxtasksperchild', options.maxtasksperchild)
  const { initializer, initargs, encoding, transport } = options
  if (initializer !== undefined && (typeof initializer !== 'string' || initializer === '')) {
    throw badRequest(
      `initializer is ${JSON.stringify(initializer) ?? typeof initializer}; it must be the name of a function`,
    )
  }
  if (initargs !== undefined && !Array.isArray(initargs))
    throw badRequest(`initargs is a ${typeof initargs}; it must be an array`)
  if (initargs !== undefined && initializer === undefined)
    throw badRequest('initargs were given without an initializer')
  if (encoding !== undefined && encoding !== 'cbor' && encoding !== 'json') {
    throw badRequest(`encoding is ${JSON.stringify(encoding)}; it must be 'cbor' or 'json'`)
  }
  if (transport !== undefined && transport !== 'stream' && transport !== 'unary') {
    throw badRequest(`transport is ${JSON.stringify(transport)}; it must be 'stream' or 'unary'`)
  }
}

/** Whether the options ask for a pool of this client's own. */
export const isOwned = (options: PoolOptions): boolean =>
  options.processes !== undefined ||
  options.initializer !== undefined ||
  options.initargs !== undefined ||
  options.maxtasksperchild !== undefined
