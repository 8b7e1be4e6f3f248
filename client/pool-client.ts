import { Failure } from '../wire/failure.js'
import { type Backing, OwnedBacking, SharedBacking } from './backing.js'
import { Caller, type CallerParts, NO_OPTIONS } from './caller.js'
import { Calls } from './calls.js'
import { errorOf, toError } from './errors.js'
import { PoolEventTarget } from './events.js'
import { type FunctionInfo, functionInfos, type PoolInfo, poolInfo } from './info.js'
import { type LocalOptions, localTransport } from './local.js'
import {
  checkOptions,
  checkServerAddress,
  checkTokenIsSafe,
  isOwned,
  type OwnedPoolOptions,
  type PoolOptions,
} from './options.js'
import { type Encoding, encodeArgs } from './request.js'
import { connect } from './transport/stream-transport.js'
import type { OpenPoolCall, Transport } from './transport/transport.js'
import type { AnyModule } from './typed.js'

/**
 *   open        takes calls
 *   closed      takes no calls; those under way are completed, then the pool that this Pool owns ends (`ended`)
 *   terminated  takes no calls; those under way have failed, and the pool that this Pool owns is being killed (`ended`)
 */
type State =
  | { readonly kind: 'open' }
  | { readonly kind: 'closed'; readonly ended: Promise<void> }
  | { readonly kind: 'terminated'; readonly ended: Promise<void> }

/** What a Pool consists of. */
class Parts implements CallerParts {
  readonly transport: Transport
  readonly backing: Backing
  readonly encoding: Encoding
  /** The name of the shared pool that this Pool uses, or that its own pool is made from. */
  readonly sharedPool: string
  readonly calls = new Calls()
  readonly events = new PoolEventTarget()
  closed: 'closed' | 'terminated' | undefined

  constructor(address: string, options: PoolOptions) {
    const given = partsOf.get(options)
    if (!given) checkServerAddress(address)
    checkOptions('new Pool', options)
    checkTokenIsSafe(address, options)
    this.encoding = options.encoding ?? 'cbor'
    this.sharedPool = options.pool ?? ''
    this.transport = given?.transport ?? this.#connect(address, options)
    this.transport.onEvent = (event) => this.events.dispatch(event)
    this.backing = given?.backing ?? this.#backingFor(options)
  }

  #connect(address: string, options: PoolOptions): Transport {
    try {
      return connect(address, options)
    } catch (error) {
      throw toError(error)
    }
  }

  #backingFor(options: PoolOptions): Backing {
    if (!isOwned(options)) return new SharedBacking(this.transport, this.sharedPool)
    const call = openPoolCall(options, this.encoding, this.sharedPool)
    return new OwnedBacking(this.transport, () => this.transport.openPool(call))
  }
}

/**
 * Python's multiprocessing.Pool over gRPC. `M` is the type of the module whose functions the server runs:
 *
 *     const pool = new Pool<typeof import('./functions.js')>('localhost:50051')
 *     await pool.fn.fib(30)
 *
 * It uses a shared pool of the server, `default` or the one that `pool` names; close, join and terminate act on the calls of
 * this Pool only. With any of `processes`, `initializer`, `initargs` and `maxtasksperchild` it opens a pool of its own, which ends with
 * this Pool or with this process. `await using` terminates the Pool, as Python's `with` does.
 *
 * Its calls are those of Caller.
 */
export class Pool<M = AnyModule> extends Caller<M> implements AsyncDisposable {
  readonly #parts: Parts
  #state: State = { kind: 'open' }

  /**
   * Returns at once; the connection is made in the background.
   * @param address of a farpool server: `host:port` or `unix:/path`.
   * @throws BadRequestError if the address, an option or a certificate is invalid, EncodingError if `initargs` cannot be encoded.
   */
  constructor(address: string, options: PoolOptions = {}) {
    const parts = new Parts(address, options)
    super(parts, NO_OPTIONS)
    this.#parts = parts
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
      checkOptions('Pool.local', options)
      const { encoding = 'cbor' } = options
      const call = openPoolCall(options, encoding)
      const transport = localTransport(Array.isArray(modules) ? modules : [modules], options)
      const backing = new OwnedBacking(transport, () => transport.openPool(call))
      await backing.target().catch(async (error: unknown) => {
        await backing.terminate()
        throw error
      })
      return poolOver<M>({ transport, backing }, { encoding })
    } catch (error) {
      throw toError(error)
    }
  }

  /** What happens to the pool: `pool.events.addEventListener('workerExited', ({ detail }) => …)`. */
  get events(): PoolEventTarget {
    return this.#parts.events
  }

  /**
   * Resolves when there is a connection, and all workers of the pool have started: from now on a call runs at once.
   * @throws UnavailableError if the server cannot be reached, InitializerError if the workers cannot start.
   */
  async ready(): Promise<void> {
    for (let pauseMs = 5; ; pauseMs = Math.min(2 * pauseMs, 200)) {
      const { failure, workers } = await this.info()
      if (failure) throw failure
      if (workers.every(({ state }) => state !== 'starting')) return
      await new Promise((resolve) => setTimeout(resolve, pauseMs))
    }
  }

  /**
   * From now on the Pool takes no more calls. Calls that are under way are completed; then the pool that this Pool owns,
   * if any, ends. Resolves without waiting for that; join() waits. Does nothing on a pool that is closed or terminated.
   */
  async close(): Promise<void> {
    if (this.#state.kind !== 'open') return
    const finish = async () => {
      await this.#parts.calls.idle()
      // If the Pool was terminated in the meantime, terminate() does the rest.
      if (this.#state.kind !== 'closed') return
      await this.#parts.backing.finish()
      this.#parts.transport.close()
    }
    this.#become({ kind: 'closed', ended: finish() })
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
    this.#parts.calls.join()
    await this.#state.ended
  }

  /**
   * Ends the Pool at once: calls that are under way fail with PoolTerminatedError, and the workers of the pool that this
   * Pool owns, if any, are killed. Resolves when they are gone; never rejects.
   */
  async terminate(): Promise<void> {
    const end = async () => {
      this.#parts.calls.cancelAll(
        new Failure('POOL_TERMINATED', 'the pool was terminated while the call was in flight'),
      )
      await this.#parts.backing.terminate()
      this.#parts.transport.close()
    }
    if (this.#state.kind !== 'terminated') this.#become({ kind: 'terminated', ended: end() })
    await this.#ended
  }

  /** When the pool that this Pool owns has ended. */
  get #ended(): Promise<void> | undefined {
    return this.#state.kind === 'open' ? undefined : this.#state.ended
  }

  #become(state: Exclude<State, { kind: 'open' }>): void {
    this.#state = state
    this.#parts.closed = state.kind
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.terminate()
  }

  /**
   * The pool's workers, queue and counters, and the server's version and limits.
   * @throws UnavailableError if the server cannot be reached, FarpoolError (POOL_NOT_FOUND) if it has no such pool.
   */
  async info(): Promise<PoolInfo> {
    const { transport, backing, events } = this.#parts
    return { ...(await poolInfo(transport, backing.target())), events: { ...events.counts } }
  }

  /**
   * The functions that can be called in the pool, sorted by name.
   * @throws UnavailableError if the server cannot be reached, FarpoolError (POOL_NOT_FOUND) if it has no such pool.
   */
  async functions(): Promise<FunctionInfo[]> {
    const { transport, sharedPool } = this.#parts
    return functionInfos(transport, sharedPool)
  }
}

const openPoolCall = (options: OwnedPoolOptions, encoding: Encoding, sharedPool = ''): OpenPoolCall => {
  const { processes, initializer = '', initargs = [], maxtasksperchild } = options
  const encoded = encodeArgs(initargs, encoding, ' of initargs')
  return { sharedPool, processes, initializer, initargs: encoded, maxtasksperchild }
}

/** The parts of a Pool that are made before it. */
export interface PoolParts {
  readonly transport: Transport
  /** Default: a shared pool of the server, or a pool of this Pool's own, as the options say. */
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
