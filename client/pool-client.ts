import { Failure } from '../wire/failure.js'
import { failedApply, startApply } from './apply.js'
import type { AsyncResult } from './async-result.js'
import { type Backing, OwnedBacking, SharedBacking } from './backing.js'
import { Calls, toError } from './calls.js'
import { errorOf } from './errors.js'
import { Imap, type ImapIterator } from './imap.js'
import { type FunctionInfo, functionInfos, type PoolInfo, poolInfo } from './info.js'
import { LocalBacking, type LocalOptions } from './local.js'
import { startMap } from './map.js'
import {
  type AsyncOptions,
  badRequest,
  type CallOptions,
  checkCount,
  checkPoolOptions,
  type ImapOptions,
  isOwned,
  type MapAsyncOptions,
  type MapOptions,
  type PoolOptions,
} from './options.js'
import { checkInput, type Encoding, encodeArgs, functionCall } from './request.js'
import { connect } from './transport/stream-transport.js'
import type { FunctionCall, Transport } from './transport/transport.js'
import type { AnyModule, Args, Bound, FunctionRef, Item, Kwargs, Result, StarItem } from './typed.js'

/**
 *   open        takes calls
 *   closed      takes none; what was accepted is completed, then what is ours ends (`ended`)
 *   terminated  what was under way has failed; what is ours is being killed (`ended`)
 */
type State =
  | { readonly kind: 'open' }
  | { readonly kind: 'closed'; readonly ended: Promise<void> }
  | { readonly kind: 'terminated'; readonly ended: Promise<void> }

/**
 * Python's multiprocessing.Pool, far away. `M` is the type of the module whose functions the server runs:
 *
 *     const pool = new Pool<typeof import('./functions.js')>('localhost:50051')
 *     await pool.apply('fib', [30])
 *
 * Without pool options it uses the server's shared pool, and close, join and terminate act on this Pool's own calls.
 * With any of `processes`, `initializer`, `initargs`, `maxtasksperchild` it opens a pool of its own, which ends with
 * this Pool or with this process. As with Python's `with`, `await using` terminates it.
 * Times are in milliseconds. Every method fails with a subclass of FarpoolError; see docs/errors.md.
 */
export class Pool<M = AnyModule> implements AsyncDisposable {
  readonly #transport: Transport
  readonly #backing: Backing
  readonly #encoding: Encoding
  readonly #calls = new Calls()
  #state: State = { kind: 'open' }

  /**
   * @param address of a farpool server: `host:port` or `unix:/path`.
   * @throws BadRequestError for options that cannot be right.
   */
  constructor(address: string, options: PoolOptions = {}) {
    if (typeof address !== 'string' || address === '') throw badRequest('address must be "host:port" or "unix:/path"')
    checkPoolOptions(options)
    this.#encoding = options.encoding ?? 'cbor'
    this.#transport = connect(address, options)
    this.#backing = backings.get(options) ?? this.#backingFor(options)
  }

  /**
   * Starts a server of this Pool's own, as a process of its own on a Unix socket, and ends it with the Pool.
   *
   * @param modules a module that exports the functions, or several: paths from the working directory, or URLs.
   * @throws InitializerError where a module cannot be loaded or the initializer fails; BadRequestError for wrong options.
   */
  static async local<M = AnyModule>(
    modules: string | URL | readonly (string | URL)[],
    options: LocalOptions = {},
  ): Promise<Pool<M>> {
    checkPoolOptions(options)
    const backing = await LocalBacking.start(Array.isArray(modules) ? modules : [modules], options).catch(
      (error: unknown) => {
        throw toError(error)
      },
    )
    const client: PoolOptions = { encoding: options.encoding ?? 'cbor', transport: options.transport ?? 'stream' }
    backings.set(client, backing)
    return new Pool<M>(backing.address, client)
  }

  /** Runs the function once and resolves with its result; as Python's apply. `kwargs` arrive as one last argument. */
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

  /** As apply, without waiting. @throws PoolClosedError at once when the pool takes no more calls. */
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

  /** Calls the function with every item; resolves with the results in the order of the items. */
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

  /** As map, without waiting. */
  mapAsync<const F extends FunctionRef<M>>(
    fn: F,
    items: Iterable<Item<M, F>>,
    options: MapAsyncOptions<Result<M, F>[]> = {},
  ): AsyncResult<Result<M, F>[]> {
    return this.#map(fn, items, options, false) as AsyncResult<Result<M, F>[]>
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

  /** As starmap, without waiting. */
  starmapAsync<const F extends FunctionRef<M>>(
    fn: F,
    items: Iterable<StarItem<M, F>>,
    options: MapAsyncOptions<Result<M, F>[]> = {},
  ): AsyncResult<Result<M, F>[]> {
    return this.#map(fn, items, options, true) as AsyncResult<Result<M, F>[]>
  }

  /** Calls the function with every item and hands out results in the order of the items. The input may be endless. */
  imap<const F extends FunctionRef<M>>(
    fn: F,
    items: Iterable<Item<M, F>> | AsyncIterable<Item<M, F>>,
    options: ImapOptions = {},
  ): ImapIterator<Result<M, F>> {
    return this.#imap(fn, items, options, true)
  }

  /** As imap, but hands out results as they come. */
  imapUnordered<const F extends FunctionRef<M>>(
    fn: F,
    items: Iterable<Item<M, F>> | AsyncIterable<Item<M, F>>,
    options: ImapOptions = {},
  ): ImapIterator<Result<M, F>> {
    return this.#imap(fn, items, options, false)
  }

  /** Takes no more calls, from now on; what was accepted is completed, then the pool of this client's own, if any, ends. */
  async close(): Promise<void> {
    if (this.#state.kind !== 'open') return
    const finish = async () => {
      await this.#calls.idle()
      // Terminated meanwhile: that ends what is ours, faster.
      if (this.#state.kind !== 'closed') return
      await this.#backing.finish()
      this.#transport.close()
    }
    this.#state = { kind: 'closed', ended: finish() }
  }

  /** Resolves when all that was accepted has ended, and the pool of this client's own too. @throws BadRequestError before close or terminate. */
  async join(): Promise<void> {
    if (this.#state.kind === 'open') {
      throw errorOf(
        new Failure('POOL_NOT_CLOSED', 'join() was called on an open pool; call close() or terminate() first'),
      )
    }
    for (const imap of this.#calls.of(Imap)) imap.lift()
    await this.#state.ended
  }

  /**
   * Ends at once: calls under way fail with PoolTerminatedError; of a pool of this client's own the workers are killed.
   * Resolves when they are gone; never hangs, never fails.
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

  /** The pool's workers, queue and counters, and the server's version and limits. */
  async info(): Promise<PoolInfo> {
    return poolInfo(this.#transport, this.#backing.target())
  }

  /** The functions that can be called, sorted by name. */
  async functions(): Promise<FunctionInfo[]> {
    return functionInfos(this.#transport)
  }

  #backingFor(options: PoolOptions): Backing {
    if (!isOwned(options)) return new SharedBacking(this.#transport)
    const { processes, initializer = '', initargs = [], maxtasksperchild } = options
    const lease = { processes, initializer, initargs: encodeArgs(initargs, this.#encoding), maxtasksperchild }
    return new OwnedBacking(this.#transport, this.#transport.openPool(lease))
  }

  #map(
    fn: string | Bound,
    iterable: Iterable<unknown>,
    options: MapAsyncOptions<never>,
    spread: boolean,
  ): AsyncResult<unknown[]> {
    this.#checkOpen()
    checkCount('chunksize', options.chunksize)
    checkInput(iterable)
    return startMap(this.#calls, this.#transport, this.#backing, iterable, {
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
    checkInput(items, 'async')
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

/** Hands a ready backing to the constructor without making it part of the public options. */
const backings = new WeakMap<PoolOptions, Backing>()
