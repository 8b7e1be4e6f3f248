import { IMAP_WINDOW_CHUNKS, imapWindow, ReorderBuffer } from '../wire/chunks.js'
import { Failure } from '../wire/failure.js'
import { printable } from '../wire/printable.js'
import { MAX_TIMER_MS } from '../wire/protocol.js'
import { type CallSite, callSite, locate } from './async-result.js'
import type { Backing, Target } from './backing.js'
import { type Calls, onAbort, type UnderWay } from './calls.js'
import { Chunk, type ChunkOptions, type ChunkResult, outcomeOf } from './chunk.js'
import { errorOf, TimeoutError } from './errors.js'
import { ProgressReport } from './map.js'
import { checkTimeout, type ImapOptions, type ItemOutcome } from './options.js'
import { deadlineAfter, type Encoding } from './request.js'
import type { ChunkOutcome, FunctionCall, Pending, Transport } from './transport/transport.js'

/** The results of imap or imapUnordered. */
export interface ImapIterator<R> extends AsyncIterableIterator<R> {
  /**
   * The next result. If an item fails, its error is thrown at the place of its result, and the iteration can continue.
   * @param timeout in milliseconds; default: no limit. After it, next() rejects with TimeoutError. No result is lost: the
   *   next call of next() gets it.
   * @throws BadRequestError if the timeout is not a number of 0 or more.
   */
  next(timeout?: number): Promise<IteratorResult<R, undefined>>
  /** Ends the iteration: cancels the calls that are under way and closes the input. `break` in a `for await` calls it. */
  return(): Promise<IteratorReturnResult<undefined>>
  /**
   * The same results in arrays, one for each chunk. A `for await` waits once for each chunk then, instead of once for each
   * result.
   *
   * If an item fails, the results of its chunk before it come first, then its error is thrown, and the iteration can
   * continue with the results behind it. No array is empty.
   *
   * This is a view of the iterator, not a copy: each result is handed out once, either here or by next(), in the order of
   * the calls, and return() ends both. After next() has taken results of a chunk, the array has those that are left.
   */
  chunks(): ImapChunks<R>
  [Symbol.asyncIterator](): ImapIterator<R>
}

/** The results of imap or imapUnordered in arrays: ImapIterator.chunks. */
export interface ImapChunks<R> extends AsyncIterableIterator<R[]> {
  /** The results that are left of a chunk, up to a failed item. Timeout and errors are those of ImapIterator.next. */
  next(timeout?: number): Promise<IteratorResult<R[], undefined>>
  /** As ImapIterator.return. */
  return(): Promise<IteratorReturnResult<undefined>>
  [Symbol.asyncIterator](): ImapChunks<R>
}

/** An imap, without its input. */
export interface ImapCall {
  /** Its pool is not set yet. */
  readonly call: FunctionCall
  readonly encoding: Encoding
  readonly ordered: boolean
  readonly options: ImapOptions
}

/** A chunk that has no outcome yet. */
interface Pulled {
  readonly chunk: Chunk
  /** A time of performance.now(). */
  readonly pulledAt: number
}

/** What next() of an iterator over `T` returns. */
type Step<T> = Promise<IteratorResult<T, undefined>>

/** An error that ends the iteration; wrapped, because an input may throw undefined. */
type LastError = { readonly error: unknown } | undefined

/**
 * The one setter is Imap.#become.
 *
 *   pulling    the input may have more items
 *   draining   the input has ended; results are on their way
 *   ended      no more results arrive; those in #ready are handed out, then `lastError` is thrown, then the iteration ends
 */
type State =
  | { readonly kind: 'pulling' }
  | { readonly kind: 'draining'; readonly lastError: LastError }
  | { readonly kind: 'ended'; readonly lastError: LastError }

/**
 * imap: pulls items from the input, sends them in chunks, and hands out the results.
 *
 *   input ── #pump ──▶ #unsent ── #flush ──▶ request ──▶ #arrived ──▶ #order (if ordered) ──▶ #ready ──▶ next()
 *     ▲                                                                                              │
 *     └─────── the window has room: a chunk counts from when it is pulled until it is consumed ──────┘
 *
 * - I1  It starts at once, as in CPython, but never holds more of the input than the window: an input may be endless.
 *       join() removes this limit, because nobody may be consuming any more.
 * - I2  A chunk is in #chunks from when it is pulled until its outcome arrives.
 * - I3  next(), also that of chunks(), hands out results in the order in which they were asked for.
 * - I4  The time of a chunk begins when it is sent for the first time, and goes on when it is sent again. With a timeout, no
 *       more chunks are under way than the pool has processes: else that time would pass in the queue, behind other chunks
 *       of the same imap.
 */
export class Imap<R> implements ImapIterator<R>, UnderWay {
  #state: State = { kind: 'pulling' }
  readonly #input: Iterator<unknown> | AsyncIterator<unknown>
  readonly #site = callSite()
  readonly #window = new Window()
  /** #pump is running; it may be waiting for an item of the input. */
  #isPumping = false
  #pulledChunks = 0
  #pulledItems = 0
  /** The chunks whose outcome has not arrived, by number. */
  readonly #chunks = new Map<number, Pulled>()
  /** The numbers of the chunks that have to be sent. */
  readonly #unsent: number[] = []
  /** With a timeout, each chunk is a request of its own, which the deadline ends. */
  readonly #isTimed: boolean
  /** How many requests may be under way (I4). */
  #maxRequests: number
  readonly #requests = new Set<Pending<void>>()
  readonly #order = new ReorderBuffer<ChunkResult>()
  /** The results that can be handed out. */
  readonly #ready: ChunkResult[] = []
  /** The item of the first chunk in #ready that is handed out next. */
  #item = 0
  /** Wakes the call of next() that waits for a result. */
  #wake: (() => void)[] = []
  /** Ends when the last call of next() has ended; each call waits for the one before it (I3). */
  #lastNext: Promise<unknown> = Promise.resolve()
  #waitingNexts = 0
  #stopListening: () => void = () => {}
  readonly #chunksize: number
  readonly #chunkOptions: ChunkOptions
  readonly #progress: ProgressReport | undefined
  /** The number of items, if the input tells it or has ended. */
  #total: number | undefined
  /** The pauses before chunks are sent again. */
  readonly #pauses = new Set<NodeJS.Timeout>()

  constructor(
    input: Iterable<unknown> | AsyncIterable<unknown>,
    private readonly calls: Calls,
    private readonly transport: Transport,
    private readonly backing: Backing,
    private readonly imap: ImapCall,
  ) {
    this.#input = iteratorOf(input)
    const { signal, chunksize = 1, timeout, retry, onProgress } = imap.options
    this.#chunksize = chunksize
    this.#chunkOptions = { encoding: imap.encoding, retry }
    this.#isTimed = deadlineAfter(timeout) !== undefined
    this.#maxRequests = this.#isTimed ? 1 : Number.POSITIVE_INFINITY
    this.#progress = onProgress && new ProgressReport(onProgress)
    this.#total = sizeOf(input)
    calls.add(this)
    if (signal) this.#stopListening = onAbort(signal, this)
    backing.target().then(
      ({ processes }) => {
        this.#window.fit(processes)
        this.#maxRequests = Math.max(this.#maxRequests, processes)
        this.#flush()
      },
      // The first request fails with this error.
      () => {},
    )
    void this.#pump()
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  next(timeout?: number): Step<R> {
    checkTimeout(timeout)
    return this.#isFree ? this.#take() : this.#inTurn(timeout, () => this.#take())
  }

  chunks(): ImapChunks<R> {
    const chunks: ImapChunks<R> = {
      next: (timeout) => {
        checkTimeout(timeout)
        return this.#isFree ? this.#takeMany() : this.#inTurn(timeout, () => this.#takeMany())
      },
      return: () => this.return(),
      [Symbol.asyncIterator]: () => chunks,
    }
    return chunks
  }

  async return(): Promise<IteratorReturnResult<undefined>> {
    this.cancel(new Failure('CANCELLED', 'the iteration was ended by its consumer'))
    this.#become({ kind: 'ended', lastError: undefined })
    this.#ready.length = 0
    this.#item = 0
    return { done: true, value: undefined }
  }

  /** Results that have arrived are still handed out, then the error. */
  cancel(reason: Failure): void {
    this.#fail(errorOf(reason), reason)
  }

  onJoin(): void {
    this.#window.remove()
    void this.#pump()
  }

  #become(state: State): void {
    this.#state = state
  }

  /** The usual case: results have arrived, and no earlier call of next() waits. */
  get #isFree(): boolean {
    return this.#waitingNexts === 0 && this.#ready.length > 0
  }

  /** Calls `take` when the earlier calls of next() have ended (I3) and results have arrived. */
  #inTurn<T>(timeout: number | undefined, take: () => Step<T>): Step<T> {
    this.#waitingNexts++
    const step = this.#lastNext.then(() => this.#wait(timeout, take))
    const done = () => void this.#waitingNexts--
    this.#lastNext = step.then(done, done)
    return step
  }

  async #wait<T>(timeout: number | undefined, take: () => Step<T>): Step<T> {
    const deadline = timeout === undefined ? undefined : Date.now() + timeout
    while (this.#ready.length === 0 && this.#state.kind !== 'ended') {
      const arrival = new Promise<void>((resolve) => this.#wake.push(resolve))
      if (deadline === undefined) await arrival
      else if (!(await settledWithin(arrival, Math.max(0, deadline - Date.now())))) {
        throw errorOf(new Failure('TASK_TIMEOUT', `no result after ${timeout} ms; the call goes on`))
      }
    }
    if (this.#ready.length > 0) return take()
    const lastError = this.#state.kind === 'ended' ? this.#state.lastError : undefined
    // The error is thrown once.
    this.#become({ kind: 'ended', lastError: undefined })
    if (lastError) throw locate(lastError.error, this.#site)
    return { done: true, value: undefined }
  }

  /** Hands out the first of the results in #ready. */
  #take(): Step<R> {
    const { values, errors } = this.#ready[0] as ChunkResult
    const item = this.#item++
    if (this.#item === values.length) this.#consumed()
    if (errors?.has(item)) return Promise.reject(locate(errors.get(item), this.#site))
    return Promise.resolve({ done: false, value: values[item] as R })
  }

  /** Hands out the first chunk in #ready, up to a failed item. If that is the first item, its error. */
  #takeMany(): Step<R[]> {
    const { values, errors } = this.#ready[0] as ChunkResult
    const from = this.#item
    let to = errors ? from : values.length
    while (to < values.length && !errors?.has(to)) to++
    this.#item = Math.max(to, from + 1)
    if (this.#item === values.length) this.#consumed()
    if (to === from) return Promise.reject(locate(errors?.get(from), this.#site))
    // A whole chunk needs no copy: nothing else uses the array from now on.
    const results = to - from === values.length ? values : values.slice(from, to)
    return Promise.resolve({ done: false, value: results as R[] })
  }

  #consumed(): void {
    this.#item = 0
    this.#ready.shift()
    this.#window.consumed()
    // Refilled when half of it is free, so that several chunks travel together.
    if (this.#window.isHalfFree) void this.#pump()
  }

  /** Pulls chunks from the input until the window is full or the input ends. */
  async #pump(): Promise<void> {
    if (this.#isPumping) return
    this.#isPumping = true
    while (this.#state.kind === 'pulling' && !this.#window.isFull) {
      const items: unknown[] = []
      try {
        // The imap may end while an asynchronous input is being read; then no more items are pulled.
        while (this.#state.kind === 'pulling' && items.length < this.#chunksize) {
          const step = this.#input.next()
          const { done, value } = step instanceof Promise ? await step : (step as IteratorResult<unknown>)
          if (done) {
            this.#inputEnded(undefined)
            break
          }
          items.push(value)
        }
      } catch (error) {
        this.#inputEnded({ error })
      }
      if (items.length > 0) this.#add(items)
    }
    this.#isPumping = false
    this.#checkEnd()
  }

  /** An error of the input is ignored if the imap has ended: the consumer has left, or got another error. */
  #inputEnded(lastError: LastError): void {
    if (this.#state.kind !== 'pulling') return
    this.#total = this.#pulledItems
    this.#become({ kind: 'draining', lastError })
  }

  #add(items: readonly unknown[]): void {
    if (this.#state.kind === 'ended') return
    const number = this.#pulledChunks++
    const first = this.#pulledItems
    this.#pulledItems += items.length
    this.#window.pulled()
    const chunk = new Chunk(items, first, this.#chunkOptions)
    this.#chunks.set(number, { chunk, pulledAt: performance.now() })
    // The errors of items that cannot be encoded are thrown at the places of their results.
    if (chunk.hasEnded) return this.#arrived(number, chunk)
    // The chunks that are pulled in this turn of the event loop travel together.
    if (this.#unsent.push(number) === 1) queueMicrotask(() => this.#flush())
  }

  /** Sends the chunks that may be sent now. */
  #flush(): void {
    while (this.#unsent.length > 0 && this.#requests.size < this.#maxRequests) {
      this.#send(this.#unsent.splice(0, this.#isTimed ? 1 : this.#unsent.length))
    }
  }

  #send(numbers: readonly number[]): void {
    const { timeout } = this.imap.options
    const chunks = numbers.flatMap((number) => this.#chunks.get(number)?.chunk ?? [])
    const payloads = chunks.map(({ payload }) => payload)
    for (const payload of payloads) this.#window.sent(payload.length)
    const start = ({ pool }: Target): Pending<void> => {
      const deadline = chunks[0]?.deadline ?? deadlineAfter(timeout)
      for (const chunk of chunks) chunk.deadline = deadline
      const request = this.transport.chunks(
        { ...this.imap.call, deadline, timeoutMs: timeout, pool, spread: false, failFast: false, chunks: payloads },
        (outcome) => this.#onOutcome(numbers[outcome.chunk], outcome),
      )
      const outcome = request.outcome.catch((reason: Failure) => {
        // Calls of other requests may have started.
        throw numbers.length < this.#pulledChunks ? reason.ofOneAmongMany() : reason
      })
      return { outcome, cancel: (reason) => request.cancel(reason) }
    }
    const request = this.calls.run(this.backing.target(), start)
    this.#requests.add(request)
    void request.outcome
      .catch((error: unknown) => {
        if (this.#isTimed && error instanceof TimeoutError) this.#timedOut(numbers, error)
        else this.#fail(error)
      })
      .finally(() => {
        this.#requests.delete(request)
        this.#flush()
      })
  }

  #onOutcome(number: number | undefined, outcome: ChunkOutcome): void {
    const chunk = this.#cameBack(number)
    if (number === undefined || !chunk) return
    const pause = chunk.settle(outcome)
    if (pause === undefined) this.#arrived(number, chunk)
    else this.#sendAgain(number, pause)
  }

  /** The chunk, which is not under way any more; undefined if the imap has ended. */
  #cameBack(number: number | undefined): Chunk | undefined {
    const pulled = number === undefined ? undefined : this.#chunks.get(number)
    if (!pulled) return undefined
    this.#window.arrived(pulled.chunk.payload.length, performance.now() - pulled.pulledAt, this.#wake.length > 0)
    return pulled.chunk
  }

  /** Before the others: its time passes. */
  #sendAgain(number: number, pauseMs: number): void {
    const timer = setTimeout(() => {
      this.#pauses.delete(timer)
      this.#unsent.unshift(number)
      this.#flush()
    }, pauseMs)
    this.#pauses.add(timer)
  }

  /** The items of the chunk, which has one request, fail; the iteration goes on. */
  #timedOut(numbers: readonly number[], error: unknown): void {
    for (const number of numbers) {
      const chunk = this.#cameBack(number)
      chunk?.fail(error)
      if (chunk) this.#arrived(number, chunk)
    }
  }

  #arrived(number: number, chunk: Chunk): void {
    this.#chunks.delete(number)
    if (this.#state.kind === 'ended') return
    this.#progress?.add(chunk.items.length, this.#total)
    const result = this.imap.options.settle ? outcomesOf(chunk.result, this.#site) : chunk.result
    if (this.imap.ordered) this.#ready.push(...this.#order.push(number, result))
    else this.#ready.push(result)
    this.#checkEnd()
    this.#wakeAll()
  }

  #checkEnd(): void {
    if (this.#state.kind === 'draining' && this.#chunks.size === 0 && !this.#isPumping) this.#end(this.#state.lastError)
  }

  /** The imap ends early: a request failed or the imap was cancelled. The other requests are cancelled with `reason`. */
  #fail(error: unknown, reason = new Failure('CANCELLED', 'another request of the imap has failed')): void {
    if (this.#state.kind === 'ended') return
    const wasPulling = this.#state.kind === 'pulling'
    this.#end({ error })
    if (wasPulling) this.#closeInput()
    for (const request of [...this.#requests]) request.cancel(reason)
  }

  /** Nobody waits for the input's own clean-up; if it fails, that becomes a warning of the process. */
  #closeInput(): void {
    const close = async () => this.#input.return?.()
    close().catch((failure: unknown) =>
      process.emitWarning(printable(String(failure)), { type: 'FarpoolInputWarning' }),
    )
  }

  #end(lastError: LastError): void {
    this.#become({ kind: 'ended', lastError })
    this.#chunks.clear()
    this.#unsent.length = 0
    for (const timer of this.#pauses) clearTimeout(timer)
    this.#stopListening()
    this.calls.remove(this)
    this.#wakeAll()
  }

  #wakeAll(): void {
    for (const wake of this.#wake.splice(0)) wake()
  }
}

/** With `settle`: the outcomes of the items take the place of their results. */
function outcomesOf({ first, values, errors }: ChunkResult, site: CallSite | undefined): ChunkResult {
  const outcomes = Array.from(
    values,
    (value, at): ItemOutcome<unknown> => ({ index: first + at, ...outcomeOf(value, errors, at, site) }),
  )
  return { first, values: outcomes, errors: undefined }
}

/** An input may be a string, too, as in Python. */
function iteratorOf(input: Iterable<unknown> | AsyncIterable<unknown>): Iterator<unknown> | AsyncIterator<unknown> {
  const { [Symbol.asyncIterator]: iterateAsync } = input as AsyncIterable<unknown>
  return iterateAsync ? iterateAsync.call(input) : (input as Iterable<unknown>)[Symbol.iterator]()
}

/** The number of items, of an array, a Set, a Map, a typed array. */
function sizeOf(input: object | string): number | undefined {
  for (const name of ['length', 'size']) {
    const size: unknown = typeof input === 'object' ? Reflect.get(input, name) : undefined
    if (typeof size === 'number') return size
  }
  return undefined
}

/** The window grows if chunks come back within this time while the consumer waits for them. */
const FAST_MS = 20
/** It grows to this many chunks, and while no more than this many bytes are under way. */
const MAX_WINDOW_CHUNKS = 1_024
const MAX_WINDOW_BYTES = 4 * 1024 * 1024

/**
 * How many chunks may be pulled from the input and not yet consumed. It grows when it slows down a consumer that waits for
 * short tasks: a round trip takes as long as many of them. It never grows beyond the number of chunks consumed so far.
 */
class Window {
  #chunks = IMAP_WINDOW_CHUNKS
  #pulled = 0
  #consumed = 0
  /** Sent and not yet come back. */
  #bytes = 0

  get isFull(): boolean {
    return this.#held >= this.#chunks
  }

  get isHalfFree(): boolean {
    return this.#held <= this.#chunks / 2
  }

  get #held(): number {
    return this.#pulled - this.#consumed
  }

  /** The number of processes is known. */
  fit(processes: number): void {
    this.#chunks = Math.max(this.#chunks, imapWindow(processes))
  }

  /** From now on there is no limit. */
  remove(): void {
    this.#chunks = Number.POSITIVE_INFINITY
  }

  pulled(): void {
    this.#pulled++
  }

  sent(bytes: number): void {
    this.#bytes += bytes
  }

  /** A chunk has come back `ms` after it was pulled. */
  arrived(bytes: number, ms: number, isAwaited: boolean): void {
    this.#bytes -= bytes
    if (!isAwaited || ms > FAST_MS || this.#bytes > MAX_WINDOW_BYTES || 2 * this.#chunks > this.#consumed) return
    this.#chunks = Math.min(2 * this.#chunks, MAX_WINDOW_CHUNKS)
  }

  consumed(): void {
    this.#consumed++
  }
}

/** Whether the promise settles within this time. Leaves no timer behind. A time that no timer can hold is no limit. */
function settledWithin(promise: Promise<unknown>, ms: number): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = ms > MAX_TIMER_MS ? undefined : setTimeout(resolve, ms, false)
    const settled = () => {
      clearTimeout(timer)
      resolve(true)
    }
    promise.then(settled, settled)
  })
}
