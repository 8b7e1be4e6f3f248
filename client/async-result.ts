import { Failure } from '../wire/failure.js'
import { MAX_TIMER_MS } from '../wire/protocol.js'
import { errorOf } from './errors.js'
import { badRequest, checkTimeout } from './options.js'

type State<T> =
  | { readonly kind: 'pending' }
  | { readonly kind: 'fulfilled'; readonly value: T }
  | { readonly kind: 'rejected'; readonly error: unknown }

const PENDING = { kind: 'pending' } as const

/** A call that can be given up; its result is settled then. */
export interface Stoppable {
  stop(): void
}

export interface ResultCallbacks<T> {
  readonly callback?: ((value: T) => void) | undefined
  readonly errorCallback?: ((error: unknown) => void) | undefined
}

/** Settles a result; the second time, nothing happens. Not for users, so no methods. */
export let fulfil: <T>(result: AsyncResult<T>, value: T) => void
export let reject: <T>(result: AsyncResult<T>, error: unknown) => void
/** How the call is given up. */
export let onCancel: <T>(result: AsyncResult<T>, stop: Stoppable) => void

/**
 * The result of a call that goes on meanwhile, as multiprocessing.pool.AsyncResult; it can also be awaited.
 * A failure that nobody asks for is not an unhandled rejection.
 */
export class AsyncResult<T> implements PromiseLike<T> {
  #state: State<T> = PENDING
  /** Told when the call has ended, after the callbacks. */
  #waiting: Set<() => void> | undefined
  #stop: Stoppable | undefined

  /** @internal made by Pool */
  constructor(private readonly callbacks: ResultCallbacks<T>) {}

  static {
    fulfil = (result, value) => result.#settle({ kind: 'fulfilled', value })
    reject = (result, error) => result.#settle({ kind: 'rejected', error })
    onCancel = (result, stop) => {
      result.#stop = stop
    }
  }

  /** @internal */
  static of<T>(outcome: Promise<T>, callbacks: ResultCallbacks<T>, stop: Stoppable): AsyncResult<T> {
    const result = new AsyncResult<T>(callbacks)
    onCancel(result, stop)
    outcome.then(
      (value) => fulfil(result, value),
      (error: unknown) => reject(result, error),
    )
    return result
  }

  /**
   * The result, or the call's error thrown.
   * @param timeout in milliseconds; TimeoutError after it. The call goes on, and get can be called again.
   */
  get(timeout?: number): Promise<T> {
    return timeout === undefined ? this.#promise() : this.#within(timeout)
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

  /**
   * Gives the call up: it fails with CancelledError at once. On the server it is dropped where it waits; a running
   * function sees its signal, and after the grace its process is killed. Returns false, and does nothing, where the call
   * has ended.
   */
  cancel(): boolean {
    if (this.#state.kind !== 'pending') return false
    this.#stop?.stop()
    return true
  }

  // biome-ignore lint/suspicious/noThenProperty: it is meant to be awaited
  then<A = T, B = never>(
    onFulfilled?: ((value: T) => A | PromiseLike<A>) | null,
    onRejected?: ((error: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.#promise().then(onFulfilled, onRejected)
  }

  async #within(timeout: number): Promise<T> {
    if (await this.#ready(timeout)) return this.#promise()
    throw errorOf(new Failure('TASK_TIMEOUT', `the result was not there after ${timeout} ms; the call goes on`))
  }

  async #ready(timeout: number | undefined): Promise<boolean> {
    checkTimeout(timeout)
    if (this.#state.kind !== 'pending') return true
    return new Promise((resolve) => {
      const settled = () => {
        clearTimeout(timer)
        resolve(true)
      }
      const late = () => {
        this.#waiting?.delete(settled)
        resolve(false)
      }
      const timer = timeout !== undefined && timeout <= MAX_TIMER_MS ? setTimeout(late, timeout) : undefined
      this.#wait(settled)
    })
  }

  #promise(): Promise<T> {
    return new Promise((resolve, reject) => {
      const tell = () => {
        if (this.#state.kind === 'fulfilled') resolve(this.#state.value)
        else if (this.#state.kind === 'rejected') reject(this.#state.error)
      }
      if (this.#state.kind === 'pending') this.#wait(tell)
      else tell()
    })
  }

  #wait(tell: () => void): void {
    this.#waiting ??= new Set()
    this.#waiting.add(tell)
  }

  #settle(state: State<T>): void {
    if (this.#state.kind !== 'pending') return
    this.#state = state
    this.#stop = undefined
    if (state.kind === 'fulfilled') this.#call(this.callbacks.callback, state.value)
    else if (state.kind === 'rejected') this.#call(this.callbacks.errorCallback, state.error)
    const waiting = this.#waiting
    this.#waiting = undefined
    if (waiting) for (const tell of waiting) tell()
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

/** Whether the promise settles within so many milliseconds; leaves no timer behind. More than a timer can hold is any time. */
export function settledWithin(promise: Promise<unknown>, ms: number): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = ms > MAX_TIMER_MS ? undefined : setTimeout(resolve, ms, false)
    const settled = () => {
      clearTimeout(timer)
      resolve(true)
    }
    promise.then(settled, settled)
  })
}
