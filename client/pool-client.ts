import { Failure } from '../wire/failure.js'
import type { AsyncResult } from './async-result.js'
import { type Backing, OwnedBacking, SharedBacking } from './backing.js'
import { Calls, failedApply, startApply } from './calls.js'
import { badRequest, errorOf, toError } from './errors.js'
import { Imap, type ImapIterator } from './imap.js'
import { type FunctionInfo, functionInfos, type PoolInfo, poolInfo } from './info.js'
import { type LocalOptions, localTransport } from './local.js'
import { startMap } from './map.js'
import {
  type AsyncOptions,
  type CallOptions,
  checkCount,
  checkPoolOptions,
  type ImapOptions,
  isOwned,
  type MapAsyncOptions,
  type MapOptions,
  type OwnedPoolOptions,
  type PoolOptions,
} from './options.js'
import { checkInput, type Encoding, encodeArgs, functionCall } from './request.js'
import { connect } from './transport/stream-transport.js'
import type { FunctionCall, OpenPoolCall, Transport } from './transport/transport.js'
import type { AnyModule, Args, Bound, FunctionRef, Item, Kwargs, Result, StarItem } from './typed.js'

/**
 *   open        takes calls
 *   closed      takes no calls; those under way are completed, then the pool that this Pool owns ends (`ended`)
 *   terminated  takes no calls; those under way have failed, and the pool that this Pool owns is being killed (`ended`)
 */
type State =
  | { readonly kind: 'open' }
  | { readonly kind: 'closed'; readonly ended: Promise<void> }
  | { readonly kind: 'terminated'; readonly ended: Promise<void> }

/**
 * Python's multiprocessing.Pool over gRPC. `M` is the type of the module whose functions the server runs:
 *
 *     const pool = new Pool<typeof import('./functions.js')>('localhost:50051')
 *     await pool.apply('fib', [30])
 *
 * Without pool options it uses the server's shared pool; close, join and terminate act on the calls of this Pool only.
 * With any of `processes`, `initializer`, `initargs` and `maxtasksperchild` it opens a pool of its own, which ends with
 * this Pool or with this process. `await using` terminates the Pool, as Python's `with` does.
 *
 * Times are in milliseconds. Every method fails with a subclass of FarpoolError; docs/errors.md lists them.
 */
export class Pool<M = AnyModule> implements AsyncDisposable {
  readonly #transport: Transport
  readonly #backing: Backing
  readonly #encoding: Encoding
  readonly #calls = new Calls()
  #state: State = { kind: 'open' }

  /**
   * Returns at once; the connection is made in the background.
   * @param address of a farpool server: `host:port` or `unix:/path`.
   * @throws BadRequestError if the address or an option is invalid, EncodingError if `initargs` cannot be encoded.
   */
  constructor(address: string, options: PoolOptions = {}) {
    if (typeof address !== 'string' || address === '') throw badRequest('address must be "host:port" or "unix:/path"')
    checkPoolOptions(options)
    const parts = partsOf.get(options)
    this.#encoding = options.encoding ?? 'cbor'
    this.#transport = parts?.transport ?? connect(address, options)
    this.#backing = parts?.backing ?? this.#backingFor(options)
  }

  /**
   * A pool of worker processes of this program alone, as Python's: no server and no network. Its workers end with the
   * Pool, and with this program. An idle pool does not keep the program alive.
   *
   * @param modules the module that exports the functions, or several: paths from the working directory, or URLs.
   * @throws InitializerError if a module cannot be loaded or the initializer fails; BadRequestError if an option is
   *   invalid.
   */
  static async local<M = AnyModule>(
    modules: string | URL | readonly (string | URL)[],
    options: LocalOptions = {},
  ): Promise<Pool<M>> {
    try {
      checkPoolOptions(options)
      const { encoding = 'cbor' } = options
      const call = openPoolCall(options, encoding)
      const transport = localTransport(Array.isArray(modules) ? modules : [modules], options)
      const backing = new OwnedBacking(transport, transport.openPool(call))
      await backing.target().catch(async (error: unknown) => {
        await backing.terminate()
        throw error
      })
      return poolOver<M>({ transport, backing }, { encoding })
    } catch (error) {
      throw toError(error)
    }
  }

  /**
   * Calls the function once, as Python's apply. `kwargs` become one last argument, an object.
   * Resolves with the function's result; rejects with RemoteError if the function throws.
   */
  apply<const F extends FunctionRef<M>>(
    fn: F,
    args?: Args<M, F>,
    kwargs?: Kwargs,
    options: CallOptions = {},
  ): Promise<Result<M, F>> {
    try {
      return this.applyAsync(fn, args, kwargs, options).get()
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /**
   * As apply, but returns at once. Errors of the call are in the result.
   * @throws PoolClosedError if the pool takes no more calls.
   */
  applyAsync<const F extends FunctionRef<M>>(
    fn: F,
    args?: Args<M, F>,
    kwargs?: Kwargs,
    options: AsyncOptions<Result<M, F>> = {},
  ): AsyncResult<Result<M, F>> {
    this.#checkOpen()
    let call: FunctionCall
    try {
      call = functionCall(fn, options, this.#encoding, args, kwargs)
    } catch (error) {
      return failedApply(error, options)
    }
    return startApply(this.#calls, this.#transport, this.#backing, call, options)
  }

  /**
   * Calls the function with every item. Resolves with the results in the order of the items.
   * If items fail, it rejects with the error of the first of them, when all items have ended; `failFast` and `settle`
   * change that.
   */
  async map<const F extends FunctionRef<M>>(
    fn: F,
    items: Iterable<Item<M, F>>,
    options: MapOptions & { settle: true },
  ): Promise<PromiseSettledResult<Result<M, F>>[]>
  async map<const F extends FunctionRef<M>>(
    fn: F,
    items: Iterable<Item<M, F>>,
    options?: MapOptions,
  ): Promise<Result<M, F>[]>
  async map(fn: FunctionRef<M>, items: Iterable<unknown>, options: MapOptions = {}): Promise<unknown> {
    return this.#map(fn, items, options, false)
  }

  /**
   * As map, but returns at once. Errors of the call are in the result.
   * @throws PoolClosedError if the pool takes no more calls; BadRequestError if `chunksize` or `items` is invalid.
   */
  mapAsync<const F extends FunctionRef<M>>(
    fn: F,
    items: Iterable<Item<M, F>>,
    options: MapAsyncOptions<Result<M, F>[]> = {},
  ): AsyncResult<Result<M, F>[]> {
    return this.#map<Result<M, F>>(fn, items, options, false)
  }

  /** As map, but each item is an array of arguments: `fn(...item)`. */
  async starmap<const F extends FunctionRef<M>>(
    fn: F,
    items: Iterable<StarItem<M, F>>,
    options: MapOptions & { settle: true },
  ): Promise<PromiseSettledResult<Result<M, F>>[]>
  async starmap<const F extends FunctionRef<M>>(
    fn: F,
    items: Iterable<StarItem<M, F>>,
    options?: MapOptions,
  ): Promise<Result<M, F>[]>
  async starmap(fn: FunctionRef<M>, items: Iterable<unknown>, options: MapOptions = {}): Promise<unknown> {
    return this.#map(fn, items, options, true)
  }

  /** As mapAsync, but each item is an array of arguments: `fn(...item)`. */
  starmapAsync<const F extends FunctionRef<M>>(
    fn: F,
    items: Iterable<StarItem<M, F>>,
    options: MapAsyncOptions<Result<M, F>[]> = {},
  ): AsyncResult<Result<M, F>[]> {
    return this.#map<Result<M, F>>(fn, items, options, true)
  }

  /**
   * Calls the function with every item. The iterator yields the results in the order of the items. The input may be
   * endless: only a bounded number of items is pulled before the results of earlier items are consumed.
   * @throws PoolClosedError if the pool takes no more calls; BadRequestError or EncodingError if an argument is invalid.
   */
  imap<const F extends FunctionRef<M>>(
    fn: F,
    items: Iterable<Item<M, F>> | AsyncIterable<Item<M, F>>,
    options: ImapOptions = {},
  ): ImapIterator<Result<M, F>> {
    return this.#imap(fn, items, options, true)
  }

  /** As imap, but yields each result as soon as it arrives. */
  imapUnordered<const F extends FunctionRef<M>>(
    fn: F,
    items: Iterable<Item<M, F>> | AsyncIterable<Item<M, F>>,
    options: ImapOptions = {},
  ): ImapIterator<Result<M, F>> {
    return this.#imap(fn, items, options, false)
  }

  /**
   * From now on the Pool takes no more calls. Calls that are under way are completed; then the pool that this Pool owns,
   * if any, ends. Resolves without waiting for that; join() waits. Does nothing on a pool that is closed or terminated.
   */
  async close(): Promise<void> {
    if (this.#state.kind !== 'open') return
    const finish = async () => {
      await this.#calls.idle()
      // If the Pool was terminated in the meantime, terminate() does the rest.
      if (this.#state.kind !== 'closed') return
      await this.#backing.finish()
      this.#transport.close()
    }
    this.#state = { kind: 'closed', ended: finish() }
  }

  /**
   * Resolves when all calls have ended, and the pool that this Pool owns, if any, has ended, too.
   * @throws BadRequestError before close() or terminate().
   */
  async join(): Promise<void> {
    if (this.#state.kind === 'open') {
      throw errorOf(
        new Failure('POOL_NOT_CLOSED', 'join() was called on an open pool; call close() or terminate() first'),
      )
    }
    this.#calls.join()
    await this.#state.ended
  }

  /**
   * Ends the Pool at once: calls that are under way fail with PoolTerminatedError, and the workers of the pool that this
   * Pool owns, if any, are killed. Resolves when they are gone; never rejects.
   */
  async terminate(): Promise<void> {
    if (this.#state.kind !== 'terminated') {
      const end = async () => {
        this.#calls.cancelAll(new Failure('POOL_TERMINATED', 'the pool was terminated while the call was in flight'))
        await this.#backing.terminate()
        this.#transport.close()
      }
      const ended = end()
      this.#state = { kind: 'terminated', ended }
    }
    await this.#state.ended
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.terminate()
  }

  /**
   * The pool's workers, queue and counters, and the server's version and limits.
   * @throws UnavailableError if the server cannot be reached.
   */
  async info(): Promise<PoolInfo> {
    return poolInfo(this.#transport, this.#backing.target())
  }

  /** The functions that can be called, sorted by name. @throws UnavailableError if the server cannot be reached. */
  async functions(): Promise<FunctionInfo[]> {
    return functionInfos(this.#transport)
  }

  #backingFor(options: PoolOptions): Backing {
    if (!isOwned(options)) return new SharedBacking(this.#transport)
    return new OwnedBacking(this.#transport, this.#transport.openPool(openPoolCall(options, this.#encoding)))
  }

  #map<R>(
    fn: string | Bound,
    items: Iterable<unknown>,
    options: MapAsyncOptions<R[]>,
    spread: boolean,
  ): AsyncResult<R[]> {
    this.#checkOpen()
    checkCount('chunksize', options.chunksize)
    checkInput(items, 'sync')
    return startMap(this.#calls, this.#transport, this.#backing, items, {
      call: () => functionCall(fn, options, this.#encoding),
      spread,
      encoding: this.#encoding,
      options,
    })
  }

  #imap<R>(
    fn: string | Bound,
    items: Iterable<unknown> | AsyncIterable<unknown>,
    { chunksize = 1, signal, ...options }: ImapOptions,
    ordered: boolean,
  ): ImapIterator<R> {
    this.#checkOpen()
    checkCount('chunksize', chunksize)
    checkInput(items, 'sync or async')
    const call = functionCall(fn, options, this.#encoding)
    return new Imap<R>(items, this.#calls, this.#transport, this.#backing.target(), {
      call,
      encoding: this.#encoding,
      ordered,
      chunksize,
      signal,
    })
  }

  #checkOpen(): void {
    if (this.#state.kind !== 'open') {
      const how = this.#state.kind === 'closed' ? 'closed' : 'terminated'
      throw errorOf(new Failure('POOL_CLOSED', `the pool has been ${how} and takes no more calls`))
    }
    if (this.#backing.failure) throw errorOf(this.#backing.failure)
  }
}

const openPoolCall = (options: OwnedPoolOptions, encoding: Encoding): OpenPoolCall => {
  const { processes, initializer = '', initargs = [], maxtasksperchild } = options
  return { processes, initializer, initargs: encodeArgs(initargs, encoding), maxtasksperchild }
}

/** The parts of a Pool that are made before it. */
export interface PoolParts {
  readonly transport: Transport
  /** Default: the server's shared pool, or a pool of this Pool's own, as the options say. */
  readonly backing?: Backing
}

/** The parts for a constructor call, by its options object: this keeps them out of the public signature. */
const partsOf = new WeakMap<PoolOptions, PoolParts>()

/** Internal, not in index.ts: makes a Pool over a given transport. Pool.local and the tests of the seam use it. */
export function poolOver<M = AnyModule>(parts: PoolParts, options: PoolOptions = {}): Pool<M> {
  const own = { ...options }
  partsOf.set(own, parts)
  return new Pool<M>('given transport', own)
}
