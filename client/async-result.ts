import { Failure } from '../wire/failure.js'
import { MAX_TIMER_MS } from '../wire/limits.js'
import { errorOf } from './errors.js'
import { badRequest, checkTimeout } from './options.js'

type State<T> =
  | { readonly kind: 'pending' }
  | { readonly kind: 'fulfilled'; readonly value: T }
  | { readonly kind: 'rejected'; readonly error: unknown }

/**
 * The result of a call that goes on meanwhile, as multiprocessing.pool.AsyncResult; it can also be awaited.
 * A failure that nobody asks for is not an unhandled rejection.
 */
export class AsyncResult<T> implements PromiseLike<T> {
  #state: State<T> = { kind: 'pending' }
  readonly #settled: Promise<void>

  /** @internal made by Pool */
  constructor(
    outcome: Promise<T>,
    private readonly callbacks: {
      callback?: ((value: T) => void) | undefined
      errorCallback?: ((error: unknown) => void) | undefined
    } = {},
  ) {
    this.#settled = outcome.then(
      (value) => {
        this.#state = { kind: 'fulfilled', value }
        this.#call(this.callbacks.callback, value)
      },
      (error: unknown) => {
        this.#state = { kind: 'rejected', error }
        this.#call(this.callbacks.errorCallback, error)
      },
    )
  }

  /**
   * The result, or the call's error thrown.
   * @param timeout in milliseconds; TimeoutError after it. The call goes on, and get can be called again.
   */
  async get(timeout?: number): Promise<T> {
    if (!(await this.#ready(timeout))) {
      throw errorOf(new Failure('TASK_TIMEOUT', `the result was not there after ${timeout} ms; the call goes on`))
    }
    if (this.#state.kind === 'fulfilled') return this.#state.value
    throw this.#state.kind === 'rejected' ? this.#state.error : new Error('unreachable: settled without a state')
  }

  /** Resolves when the result is there or the timeout (milliseconds) has passed, whichever is first; never throws. */
  async wait(timeout?: number): Promise<void> {
    await this.#ready(timeout)
  }

  /** Whether the call has ended. */
  ready(): boolean {
    return this.#state.kind !== 'pending'
  }

  /** Whether the call has ended without an error. @throws BadRequestError while it has not ended. */
  successful(): boolean {
    if (this.#state.kind === 'pending') throw badRequest('successful() was called before the result was ready')
    return this.#state.kind === 'fulfilled'
  }

  // biome-ignore lint/suspicious/noThenProperty: it is meant to be awaited
  then<A = T, B = never>(
    onFulfilled?: ((value: T) => A | PromiseLike<A>) | null,
    onRejected?: ((error: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.get().then(onFulfilled, onRejected)
  }

  async #ready(timeout: number | undefined): Promise<boolean> {
    checkTimeout(timeout)
    if (timeout === undefined || timeout > MAX_TIMER_MS) {
      await this.#settled
      return true
    }
    return settledWithin(this.#settled, timeout)
  }

  /** A callback that throws is reported as a warning of the process: it ends neither the call nor the program. */
  #call<V>(callback: ((value: V) => void) | undefined, value: V): void {
    try {
      callback?.(value)
    } catch (error) {
      process.emitWarning(error instanceof Error ? error : String(error), { type: 'FarpoolCallbackError' })
    }
  }
}

/** Whether the promise settles within so many milliseconds; leaves no timer behind. */
export function settledWithin(promise: Promise<unknown>, ms: number): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms, false)
    const settled = () => {
      clearTimeout(timer)
      resolve(true)
    }
    promise.then(settled, settled)
  })
}
