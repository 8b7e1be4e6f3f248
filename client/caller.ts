import { Failure } from '../wire/failure.js'
import { type AsyncResult, resultOf } from './async-result.js'
import type { Backing } from './backing.js'
import { type Calls, failedApply, startApply } from './calls.js'
import { errorOf } from './errors.js'
import { Imap, type ImapIterator } from './imap.js'
import { startMap } from './map.js'
import {
  type AsyncOptions,
  type CallOptions,
  checkOptions,
  type ImapOptions,
  type ItemOutcome,
  type MapAsyncOptions,
  type MapOptions,
} from './options.js'
import { checkInput, type Encoding, functionCall } from './request.js'
import type { FunctionCall, Transport } from './transport/transport.js'
import type { AnyModule, Bound, CallArgs, FunctionRef, Functions, Item, Kwargs, Result, StarItem } from './typed.js'

/** A Pool, as its calls need it. */
export interface CallerParts {
  readonly transport: Transport
  readonly backing: Backing
  readonly encoding: Encoding
  readonly calls: Calls
  /** Why the Pool takes no more calls; undefined while it does. */
  readonly closed: 'closed' | 'terminated' | undefined
}

/**
 * The calls of a Pool: what a Pool itself has, and what `pool.with(options)` gives. `M` is the type of the module whose
 * functions the server runs. Times are in milliseconds. Every method fails with a subclass of FarpoolError;
 * docs/reference/errors.md lists them.
 */
export class Caller<M = AnyModule> {
  readonly #parts: CallerParts
  readonly #defaults: CallOptions

  /** @internal Pool makes them. */
  constructor(parts: CallerParts, defaults: CallOptions) {
    this.#parts = parts
    this.#defaults = defaults
    this.fn = handles((name, args) => this.#applyAsync(name, args, undefined, undefined))
  }

  /**
   * The functions, to be called like functions: `await pool.fn.fib(30)`. A call returns an AsyncResult at once; errors of
   * the call are in it. A function that is named `then` has to be called with apply.
   * @throws PoolClosedError if the pool takes no more calls.
   */
  readonly fn: Functions<M>

  /**
   * The same pool, with these options for every call: `pool.with({ timeout: 5000 }).fn.thumbnail('a.jpg')`. Options of a
   * single call come first.
   * @throws BadRequestError if an option is invalid.
   */
  with(options: CallOptions): Caller<M> {
    checkOptions('with', options)
    return new Caller(this.#parts, { ...this.#defaults, ...options })
  }

  /**
   * Calls the function once, as Python's apply. `kwargs` become one last argument, an object.
   * Resolves with the function's result; rejects with RemoteError if the function throws.
   */
  apply<const F extends FunctionRef<M>>(fn: F, ...call: CallArgs<M, F, CallOptions>): Promise<Result<M, F>> {
    const [args, kwargs, options] = call as AnyCall
    try {
      return this.#applyAsync<Result<M, F>>(fn, args, kwargs, options).get()
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /**
   * As apply, but returns at once. Errors of the call are in the result.
   * @throws PoolClosedError if the pool takes no more calls; BadRequestError if an option is invalid.
   */
  applyAsync<const F extends FunctionRef<M>>(
    fn: F,
    ...call: CallArgs<M, F, AsyncOptions<Result<M, F>>>
  ): AsyncResult<Result<M, F>> {
    const [args, kwargs, options] = call as AnyCall
    return this.#applyAsync(fn, args, kwargs, options)
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
  async map(fn: string | Bound, items: Iterable<unknown>, options?: MapOptions): Promise<unknown> {
    return this.#map(fn, items, options, false)
  }

  /**
   * As map, but returns at once. Errors of the call are in the result.
   * @throws PoolClosedError if the pool takes no more calls; BadRequestError if an option or the input is invalid.
   */
  mapAsync<const F extends FunctionRef<M>>(
    fn: F,
    items: Iterable<Item<M, F>>,
    options?: MapAsyncOptions<Result<M, F>[]>,
  ): AsyncResult<Result<M, F>[]> {
    return this.#map(fn, items, options, false)
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
  async starmap(fn: string | Bound, items: Iterable<unknown>, options?: MapOptions): Promise<unknown> {
    return this.#map(fn, items, options, true)
  }

  /** As mapAsync, but each item is an array of arguments: `fn(...item)`. */
  starmapAsync<const F extends FunctionRef<M>>(
    fn: F,
    items: Iterable<StarItem<M, F>>,
    options?: MapAsyncOptions<Result<M, F>[]>,
  ): AsyncResult<Result<M, F>[]> {
    return this.#map(fn, items, options, true)
  }

  /**
   * Calls the function with every item. The iterator yields the results in the order of the items; with `settle`, an
   * outcome for each item. The input may be endless: only a bounded number of items is pulled before the results of
   * earlier items are consumed.
   * @throws PoolClosedError if the pool takes no more calls; BadRequestError or EncodingError if an argument is invalid.
   */
  imap<const F extends FunctionRef<M>>(
    fn: F,
    items: Iterable<Item<M, F>> | AsyncIterable<Item<M, F>>,
    options: ImapOptions & { settle: true },
  ): ImapIterator<ItemOutcome<Result<M, F>>>
  imap<const F extends FunctionRef<M>>(
    fn: F,
    items: Iterable<Item<M, F>> | AsyncIterable<Item<M, F>>,
    options?: ImapOptions,
  ): ImapIterator<Result<M, F>>
  imap(
    fn: string | Bound,
    items: Iterable<unknown> | AsyncIterable<unknown>,
    options?: ImapOptions,
  ): ImapIterator<unknown> {
    return this.#imap(fn, items, options, true)
  }

  /** As imap, but yields each result as soon as it arrives. */
  imapUnordered<const F extends FunctionRef<M>>(
    fn: F,
    items: Iterable<Item<M, F>> | AsyncIterable<Item<M, F>>,
    options: ImapOptions & { settle: true },
  ): ImapIterator<ItemOutcome<Result<M, F>>>
  imapUnordered<const F extends FunctionRef<M>>(
    fn: F,
    items: Iterable<Item<M, F>> | AsyncIterable<Item<M, F>>,
    options?: ImapOptions,
  ): ImapIterator<Result<M, F>>
  imapUnordered(
    fn: string | Bound,
    items: Iterable<unknown> | AsyncIterable<unknown>,
    options?: ImapOptions,
  ): ImapIterator<unknown> {
    return this.#imap(fn, items, options, false)
  }

  #applyAsync<R>(
    fn: string | Bound,
    args: readonly unknown[] | undefined,
    kwargs: Kwargs | undefined,
    own: AsyncOptions<R> | undefined,
  ): AsyncResult<R> {
    const { transport, backing, encoding, calls } = this.#openParts
    if (own !== undefined) checkOptions('apply', own)
    const options = this.#withDefaults(own)
    let call: FunctionCall
    try {
      call = functionCall(fn, options, encoding, args, kwargs)
    } catch (error) {
      return failedApply(error, options)
    }
    return startApply(calls, transport, backing, call, options)
  }

  #map<R>(
    fn: string | Bound,
    input: Iterable<unknown>,
    own: MapAsyncOptions<R[]> | undefined,
    spread: boolean,
  ): AsyncResult<R[]> {
    const { transport, backing, encoding, calls } = this.#openParts
    if (own !== undefined) checkOptions('map', own)
    checkInput(input, 'sync')
    const options = this.#withDefaults(own)
    try {
      const items = [...input]
      return startMap(calls, transport, backing, items, {
        call: functionCall(fn, options, encoding),
        spread,
        encoding,
        options,
      })
    } catch (error) {
      return resultOf({ outcome: Promise.reject(error), cancel: () => {} }, options)
    }
  }

  #imap<R>(
    fn: string | Bound,
    items: Iterable<unknown> | AsyncIterable<unknown>,
    own: ImapOptions | undefined,
    ordered: boolean,
  ): Imap<R> {
    const { transport, backing, encoding, calls } = this.#openParts
    if (own !== undefined) checkOptions('imap', own)
    checkInput(items, 'sync or async')
    const options = this.#withDefaults(own)
    // Each chunk has a deadline of its own, from when it is sent.
    const { timeout: _, ...others } = options
    const call = functionCall(fn, others, encoding)
    return new Imap<R>(items, calls, transport, backing, { call, encoding, ordered, options })
  }

  #withDefaults<O extends CallOptions>(options: O | undefined): O {
    if (options === undefined) return this.#defaults as O
    return this.#defaults === NO_OPTIONS ? options : { ...this.#defaults, ...options }
  }

  /** @throws PoolClosedError if the Pool takes no more calls, or the error that ended the pool that it owns. */
  get #openParts(): CallerParts {
    const { closed, backing } = this.#parts
    if (closed) throw errorOf(new Failure('POOL_CLOSED', `the pool has been ${closed} and takes no more calls`))
    if (backing.failure) throw errorOf(backing.failure)
    return this.#parts
  }
}

export const NO_OPTIONS: CallOptions = {}

/** What follows the function's name; its types are checked where the user writes it. */
// biome-ignore lint/suspicious/noExplicitAny: the callbacks take the result's type
type AnyCall = [args?: readonly unknown[], kwargs?: Kwargs, options?: AsyncOptions<any>]

/** An object with a function for every name. */
function handles<M>(call: (name: string, args: unknown[]) => AsyncResult<unknown>): Functions<M> {
  const known: Record<string | symbol, unknown> = Object.create(null)
  return new Proxy(known, {
    get(_, name) {
      // A `then` would make it a promise for everything that awaits it.
      if (typeof name === 'symbol' || name === 'then') return undefined
      known[name] ??= (...args: unknown[]) => call(name, args)
      return known[name]
    },
  }) as Functions<M>
}
