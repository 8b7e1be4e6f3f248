import { badRequest } from './errors.js'

/** The options of multiprocessing.Pool, with Python's names. With any of them, the Pool opens a pool of its own. */
export interface OwnedPoolOptions {
  /** The number of worker processes; an integer of 1 or more. Default: that of the server's shared pool. */
  processes?: number
  /** The name of a function that each worker process calls when it starts. */
  initializer?: string
  /** The arguments of the initializer. Default: none. */
  initargs?: readonly unknown[]
  /** The server replaces a worker after this number of tasks; an integer of 1 or more. A chunk is one task. Default: never. */
  maxtasksperchild?: number
}

/** How this client talks to the server. */
export interface ClientOptions {
  /** The encoding of values. 'cbor' (default) carries all values of docs/values.md, 'json' those that JSON has. */
  encoding?: 'cbor' | 'json'
  /**
   * 'stream' (default) sends many calls in one stream. 'unary' makes one RPC for each call, so that a proxy can spread the
   * calls over several servers.
   */
  transport?: 'stream' | 'unary'
}

export type PoolOptions = OwnedPoolOptions & ClientOptions

/** The options of every call. A time of more than 24.8 days counts as no limit. */
export interface CallOptions {
  /**
   * How long the call may take in all, in milliseconds: in the queue and running. After it, the call fails with
   * TimeoutError and the server cancels it. Default: no limit.
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
}

export interface AsyncOptions<R> extends CallOptions {
  /** Called once with the result, before `get` resolves. */
  callback?: (value: R) => void
  /** Called once with the error, before `get` rejects. */
  errorCallback?: (error: unknown) => void
}

export interface MapOptions extends CallOptions {
  /** The number of items in a task; an integer of 1 or more. Default: ceil(items / (4 × processes)), as in Python. */
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

export interface ImapOptions extends Omit<CallOptions, 'timeout'> {
  /** The number of items in a task; an integer of 1 or more. Default: 1, as in Python. */
  chunksize?: number
}

/** Whether the options ask for a pool of this client's own. */
export const isOwned = (options: PoolOptions): boolean =>
  options.processes !== undefined ||
  options.initializer !== undefined ||
  options.initargs !== undefined ||
  options.maxtasksperchild !== undefined

/** Checks the options of a pool, once. @throws BadRequestError for the first that is invalid. */
export function checkPoolOptions(options: PoolOptions): void {
  checkCount('processes', options.processes)
  checkCount('maxtasksperchild', options.maxtasksperchild)
  const { initializer, initargs, encoding, transport } = options
  if (initializer !== undefined && (typeof initializer !== 'string' || initializer === '')) {
    throw badRequest(
      `initializer is ${JSON.stringify(initializer) ?? typeof initializer}; it must be the name of a function`,
    )
  }
  if (initargs !== undefined && !Array.isArray(initargs)) {
    throw badRequest(`initargs is a ${typeof initargs}; it must be an array`)
  }
  if (initargs !== undefined && initializer === undefined) {
    throw badRequest('initargs were given without an initializer')
  }
  if (encoding !== undefined && encoding !== 'cbor' && encoding !== 'json') {
    throw badRequest(`encoding is ${JSON.stringify(encoding)}; it must be 'cbor' or 'json'`)
  }
  if (transport !== undefined && transport !== 'stream' && transport !== 'unary') {
    throw badRequest(`transport is ${JSON.stringify(transport)}; it must be 'stream' or 'unary'`)
  }
}

/** @throws BadRequestError if the count is given and is not an integer of at least `least`. */
export function checkCount(name: string, value: number | undefined, least = 1): void {
  if (value === undefined || (Number.isSafeInteger(value) && value >= least)) return
  throw badRequest(`${name} is ${String(value)}; it must be an integer, ${least} or more`)
}
