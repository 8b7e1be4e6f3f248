import { Failure } from '../wire/failure.js'
import { packageFile } from '../wire/package.js'
import { printable } from '../wire/printable.js'
import { MAX_TIMER_MS } from '../wire/protocol.js'
import { userFrames } from '../wire/user-frames.js'
import { reasonOf } from '../wire/values/value-errors.js'
import { badRequest, errorOf, FarpoolError } from './errors.js'
import { checkTimeout } from './options.js'
import type { Pending, Ticket } from './transport/transport.js'
import { unseen } from './unseen.js'

/** The one setter is AsyncResult.#settle. */
type State<T> =
  /** The call is under way. */
  | { readonly kind: 'pending' }
  /** The call has ended with a result. */
  | { readonly kind: 'fulfilled'; readonly value: T }
  /** The call has ended with an error. */
  | { readonly kind: 'rejected'; readonly error: unknown }

const PENDING = { kind: 'pending' } as const

export interface ResultCallbacks<T> {
  readonly callback?: ((value: T) => unknown) | undefined
  readonly errorCallback?: ((error: unknown) => unknown) | undefined
}

/** Settles a result; a result that is settled stays as it is. These are functions, because users must not call them. */
export let fulfil: <T>(result: AsyncResult<T>, value: T) => void
export let reject: <T>(result: AsyncResult<T>, error: unknown) => void
/** Sets the call that cancel() of the result cancels. */
export let setTicket: <T>(result: AsyncResult<T>, ticket: Ticket) => void

/**
 * The result of a call that is under way, as multiprocessing.pool.AsyncResult. It can also be used as a promise. A call
 * that fails causes no unhandled rejection if its result is never asked for; if the program drops such a result, that
 * becomes a warning of the process, FarpoolUnseenError.
 */
export class AsyncResult<T> implements Promise<T> {
  #state: State<T> = PENDING
  /** Called when the call has ended, after the callbacks. */
  #waiting: Set<() => void> | undefined
  #ticket: Ticket | undefined
  /** Whether somebody wants to know the outcome; before that, what to call when somebody does. */
  #look: true | (() => void) | undefined
  readonly #site = callSite()

  /** @internal Pool makes results. */
  constructor(private readonly callbacks: ResultCallbacks<T>) {}

  static {
    fulfil = (result, value) => result.#settle({ kind: 'fulfilled', value })
    reject = (result, error) => result.#settle({ kind: 'rejected', error: locate(error, result.#site) })
    setTicket = (result, ticket) => {
      result.#ticket = ticket
    }
  }

  get [Symbol.toStringTag](): string {
    return 'AsyncResult'
  }

  /**
   * Resolves with the result of the call, or rejects with its error.
   * @param timeout in milliseconds; default: no limit. After it, get() rejects with TimeoutError. The call continues, and
   *   get() can be called again.
   * @throws BadRequestError if the timeout is not a number of 0 or more.
   */
  get(timeout?: number): Promise<T> {
    return timeout === undefined ? this.#promise() : this.#within(timeout)
  }

  /**
   * Resolves when the call has ended or the timeout has passed, whichever is first. An error of the call is not thrown.
   * @param timeout in milliseconds; default: no limit.
   * @throws BadRequestError if the timeout is not a number of 0 or more.
   */
  async wait(timeout?: number): Promise<void> {
    await this.#ready(timeout)
  }

  /** Whether the call has ended. */
  ready(): boolean {
    return this.#state.kind !== 'pending'
  }

  /** Whether the call has ended without an error. @throws BadRequestError while the call is under way. */
  successful(): boolean {
    if (this.#state.kind === 'pending') throw badRequest('successful() was called before the result was ready')
    this.#looked()
    return this.#state.kind === 'fulfilled'
  }

  /**
   * Cancels the call: it fails with CancelledError at once. The server drops the call if it is queued. If the function is
   * running, its AbortSignal fires, and its process is killed if it still runs after the server's grace (default 2,000
   * ms). Returns false, and does nothing, if the call has ended.
   */
  cancel(): boolean {
    if (this.#state.kind !== 'pending') return false
    this.#ticket?.cancel(cancelledByCaller())
    return true
  }

  // biome-ignore lint/suspicious/noThenProperty: an AsyncResult can be awaited
  then<A = T, B = never>(
    onFulfilled?: ((value: T) => A | PromiseLike<A>) | null,
    onRejected?: ((error: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.#promise().then(onFulfilled, onRejected)
  }

  /** As Promise.catch. */
  catch<B = never>(onRejected?: ((error: unknown) => B | PromiseLike<B>) | null): Promise<T | B> {
    return this.#promise().catch(onRejected)
  }

  /** As Promise.finally. */
  finally(onFinally?: (() => void) | null): Promise<T> {
    return this.#promise().finally(onFinally)
  }

  async #within(timeout: number): Promise<T> {
    if (await this.#ready(timeout)) return this.#promise()
    throw errorOf(new Failure('TASK_TIMEOUT', `the result was not there after ${timeout} ms; the call goes on`))
  }

  /** Resolves with true when the call has ended, with false if it has not ended within the timeout. */
  async #ready(timeout: number | undefined): Promise<boolean> {
    checkTimeout(timeout)
    this.#looked()
    if (this.#state.kind !== 'pending') return true
    return new Promise((resolve) => {
      const onSettled = () => {
        clearTimeout(timer)
        resolve(true)
      }
      const onTimeout = () => {
        this.#waiting?.delete(onSettled)
        resolve(false)
      }
      const timer = timeout !== undefined && timeout <= MAX_TIMER_MS ? setTimeout(onTimeout, timeout) : undefined
      this.#whenSettled(onSettled)
    })
  }

  #looked(): void {
    if (typeof this.#look === 'function') this.#look()
    this.#look = true
  }

  #promise(): Promise<T> {
    this.#looked()
    return new Promise((resolve, reject) => {
      const onSettled = () => {
        if (this.#state.kind === 'fulfilled') resolve(this.#state.value)
        else if (this.#state.kind !== 'rejected') return
        else if (this.#site) reject(this.#state.error)
        else resolve(rejected(this.#state.error))
      }
      if (this.#state.kind === 'pending') this.#whenSettled(onSettled)
      else onSettled()
    })
  }

  #whenSettled(onSettled: () => void): void {
    this.#waiting ??= new Set()
    this.#waiting.add(onSettled)
  }

  #settle(state: State<T>): void {
    if (this.#state.kind !== 'pending') return
    this.#state = state
    this.#ticket = undefined
    if (state.kind === 'fulfilled') callBack(this.callbacks.callback, state.value)
    else if (state.kind === 'rejected') {
      if (this.callbacks.errorCallback) this.#looked()
      callBack(this.callbacks.errorCallback, state.error)
      if (this.#look === undefined) this.#look = unseen(this, state.error)
    }
    const waiting = this.#waiting
    this.#waiting = undefined
    if (waiting) for (const onSettled of waiting) onSettled()
  }
}

/** Calls a user's callback. What it throws, or rejects with, becomes a warning; it ends neither the call nor the program. */
export function callBack<V>(callback: ((value: V) => unknown) | undefined, value: V): void {
  if (callback === undefined) return
  try {
    const returned: unknown = callback(value)
    if (returned !== undefined) Promise.resolve(returned).catch(warn)
  } catch (error) {
    warn(error)
  }
}

/** A warning of the process about an error in a function of the user, FarpoolCallbackError. */
export function warn(error: unknown): void {
  // Node prints it, and it may be the error of a function far away.
  const warning = new Error(printable(reasonOf(error)), { cause: error })
  // The name of a warning that is an Error is that of the Error.
  warning.name = 'FarpoolCallbackError'
  if (error instanceof Error && typeof error.stack === 'string')
    warning.stack = printable(`${warning.name}: ${error.stack}`)
  process.emitWarning(warning)
}

/** The result of a request that is under way. */
export function resultOf<T>(request: Pending<T>, callbacks: ResultCallbacks<T>): AsyncResult<T> {
  const result = new AsyncResult<T>(callbacks)
  setTicket(result, request)
  request.outcome.then(
    (value) => fulfil(result, value),
    (error: unknown) => reject(result, error),
  )
  return result
}

/** The failure of a call that its caller cancels. @param cause the reason of the caller's AbortSignal. */
export const cancelledByCaller = (cause?: unknown): Failure =>
  new Failure('CANCELLED', 'the call was cancelled by its caller', { cause })

/** How many frames of a call's stack are kept: farpool's own, which come first, and the nearest of the user's. */
const FRAMES = 8

/**
 * A stack takes some five microseconds, as much as all the rest of a call in a burst of a hundred thousand. So at most this
 * many are taken in a millisecond, which costs one or two percent of the time. For the calls between, see `rejected`.
 */
const MOST_PER_MS = 3

let millisecond = 0
let taken = 0

/** Where the user's program made a call. V8 makes the text of `stack` when it is read. */
export interface CallSite {
  readonly stack?: string
  /** Those of the user. There may be many errors of one call. */
  frames?: readonly string[]
}

/** The place that calls a method of a pool. Called synchronously by each call, and by each imap, when it is made. */
export function callSite(): CallSite | undefined {
  const now = Math.floor(performance.now())
  if (now !== millisecond) {
    millisecond = now
    taken = 0
  }
  if (++taken > MOST_PER_MS) return undefined
  const site: CallSite = {}
  const { stackTraceLimit } = Error
  // Reflect.set does not throw if the property is frozen.
  Reflect.set(Error, 'stackTraceLimit', FRAMES)
  Error.captureStackTrace(site, callSite)
  Reflect.set(Error, 'stackTraceLimit', stackTraceLimit)
  return site
}

/** Gives an error of farpool the stack of the call that it ends, instead of farpool's own when the outcome arrived. */
export function locate(error: unknown, site: CallSite | undefined): unknown {
  if (!(error instanceof FarpoolError) || typeof site?.stack !== 'string') return error
  site.frames ??= userFrames(site.stack, ownFolders())
  error.stack = [`${error.name}: ${error.message}`, ...site.frames].join('\n')
  return error
}

/**
 * Rejects with the error of a call that has no site. Its stack names the async functions that await the call: V8 finds them
 * at that time, so nothing has to be remembered before.
 */
async function rejected(error: unknown): Promise<never> {
  // The promise of the call follows this one after two turns of the microtask queue; then V8 sees who waits.
  await undefined
  await undefined
  if (error instanceof FarpoolError) Error.captureStackTrace(error, rejected)
  throw error
}

/** Where the code of the client is: built, and as a source map names it, in frames with URLs or with paths. None in a bundle. */
function ownFolders(): readonly string[] {
  try {
    return ['dist/client/', 'dist/shared/', 'client/'].map((folder) => packageFile(folder).pathname)
  } catch {
    return []
  }
}
