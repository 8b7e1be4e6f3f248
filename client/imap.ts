import { IMAP_WINDOW_CHUNKS } from '../wire/chunks.js'
import { Failure } from '../wire/failure.js'
import { settledWithin } from './async-result.js'
import type { Target } from './backing.js'
import { abortFailure, type Calls, type Cancellable, onAbort } from './calls.js'
import { errorOf } from './errors.js'
import { checkTimeout } from './options.js'
import { type ChunkResult, decodeChunk, type Encoding, encode, failedChunk } from './request.js'
import type { ChunkOutcome, FunctionCall, Transport } from './transport/transport.js'

/**
 * Where chunks come back within IMAP_FAST_MS and the consumer waits for them, an imap's window grows, up to so many
 * chunks or bytes: a round trip takes as long as many short tasks.
 */
const IMAP_FAST_MS = 20
const IMAP_MAX_WINDOW_CHUNKS = 1_024
const IMAP_WINDOW_BYTES = 4 * 1024 * 1024

/**
 * How many chunks of an imap may be pulled and not yet consumed. It grows where it holds back a consumer that waits for
 * short tasks, since a round trip takes as long as many of them; never beyond what has been consumed.
 */
export class Window {
  #chunks = IMAP_WINDOW_CHUNKS
  #consumed = 0
  /** Of payloads that have been sent and not come back. */
  #bytes = 0

  get chunks(): number {
    return this.#chunks
  }

  /** At least four chunks for each process. */
  fit(processes: number): void {
    this.#chunks = Math.max(this.#chunks, 4 * processes)
  }

  lift(): void {
    this.#chunks = Number.POSITIVE_INFINITY
  }

  sent(bytes: number): void {
    this.#bytes += bytes
  }

  /** A chunk has come back, so many milliseconds after it was pulled. */
  arrived(bytes: number, ms: number, isAwaited: boolean): void {
    this.#bytes -= bytes
    if (!isAwaited || ms > IMAP_FAST_MS || this.#bytes > IMAP_WINDOW_BYTES || 2 * this.#chunks > this.#consumed) return
    this.#chunks = Math.min(2 * this.#chunks, IMAP_MAX_WINDOW_CHUNKS)
  }

  consumed(): void {
    this.#consumed++
  }
}

/** Everything of an imap but its input. */
export interface ImapCall {
  /** Its pool is set when it is known. */
  readonly call: FunctionCall
  readonly encoding: Encoding
  readonly ordered: boolean
  readonly chunksize: number
  readonly signal: AbortSignal | undefined
}

/** The results of imap and imapUnordered, as they come; `next` also takes a timeout in milliseconds. */
export interface ImapIterator<R> extends AsyncIterableIterator<R> {
  /**
   * The next result; a failed item's error is thrown at its own position, and iteration can go on behind it.
   * @param timeout in milliseconds; TimeoutError after it. The result is not lost: the next call gets it.
   */
  next(timeout?: number): Promise<IteratorResult<R, undefined>>
  return(): Promise<IteratorResult<R, undefined>>
  [Symbol.asyncIterator](): ImapIterator<R>
}

interface Chunk {
  readonly items: number
  readonly pulledAt: number
  /** The index of its first item in the input. */
  readonly first: number
  payload: Uint8Array | undefined
  /** Arrived, but not its turn yet. */
  results: ChunkResult | undefined
}

/**
 * imap: pulls the input as the window allows, sends it in chunks, hands out results.
 *
 *   input ── #pump ──▶ #batch ── #send ──▶ one request ──▶ #arrived ──▶ (in order) #ready ──▶ next()
 *     ▲                                                                                        │
 *     └──────────── room in the window: a chunk counts from its pull to its last next() ───────┘
 *
 * It starts at once, as CPython's does, but never holds more of the input than the window: an input may be endless.
 * join() lifts the window, because then nobody may be consuming.
 *
 *   pulling    the input may have more
 *   draining   the input has ended; results are on their way
 *   ended      every result has arrived, or none will: what is in #ready is handed out, then #error, then the end
 */
export class Imap<R> implements ImapIterator<R>, Cancellable {
  #state: 'pulling' | 'draining' | 'ended' = 'pulling'
  readonly #input: Iterator<unknown> | AsyncIterator<unknown>
  readonly #requests = new Set<Cancellable>()
  /** Pulled and not yet handed out, by number. */
  readonly #chunks = new Map<number, Chunk>()
  /** Chunks whose results can be handed out; of the first, all before #item have been. */
  readonly #ready: ChunkResult[] = []
  #item = 0
  /** Chunks to be sent together. */
  #batch: number[] = []
  #pulledChunks = 0
  #pulledItems = 0
  /** Ordered: the chunk whose results are handed out next. */
  #nextInOrder = 0
  readonly #window = new Window()
  #pumping = false
  /** Thrown behind the last result. */
  #error: { readonly error: unknown } | undefined
  #wake: (() => void)[] = []
  #stopListening: () => void = () => {}
  /** Serialises next(): results are handed out in the order in which they were asked for. */
  #turn: Promise<unknown> = Promise.resolve()
  #turns = 0

  constructor(
    input: Iterable<unknown> | AsyncIterable<unknown>,
    private readonly calls: Calls,
    private readonly transport: Transport,
    private readonly target: Promise<Target>,
    private readonly imap: ImapCall,
  ) {
    this.#input = Symbol.asyncIterator in input ? input[Symbol.asyncIterator]() : input[Symbol.iterator]()
    calls.add(this)
    if (imap.signal) this.#stopListening = onAbort(imap.signal, () => this.cancel(abortFailure(imap.signal)))
    target.then(
      ({ processes }) => {
        this.#window.fit(processes)
      },
      () => {},
    )
    void this.#pump()
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  next(timeout?: number): Promise<IteratorResult<R, undefined>> {
    checkTimeout(timeout)
    // Most are there already, and nobody has asked before.
    if (this.#turns === 0 && this.#ready.length > 0) return this.#take()
    this.#turns++
    const turn = this.#turn.then(() => this.#next(timeout))
    const done = () => void this.#turns--
    this.#turn = turn.then(done, done)
    return turn
  }

  /** The consumer leaves: what is under way is cancelled, the input is closed. */
  async return(): Promise<IteratorResult<R, undefined>> {
    this.cancel(new Failure('CANCELLED', 'the iteration was ended by its consumer'))
    this.#error = undefined
    this.#ready.length = 0
    this.#item = 0
    return { done: true, value: undefined }
  }

  /** Results that have arrived are still handed out, then the error. */
  cancel(reason: Failure): void {
    this.#fail(errorOf(reason), reason)
  }

  /** Pulls the whole input from now on: the pool is being joined. */
  lift(): void {
    this.#window.lift()
    void this.#pump()
  }

  async #next(timeout: number | undefined): Promise<IteratorResult<R, undefined>> {
    const deadline = timeout === undefined ? undefined : Date.now() + timeout
    while (this.#ready.length === 0 && this.#state !== 'ended') {
      const arrival = new Promise<void>((resolve) => this.#wake.push(resolve))
      if (deadline === undefined) await arrival
      else if (!(await settledWithin(arrival, Math.max(0, deadline - Date.now())))) {
        throw errorOf(new Failure('TASK_TIMEOUT', `no result after ${timeout} ms; the call goes on`))
      }
    }
    if (this.#ready.length > 0) return this.#take()
    const error = this.#error
    this.#error = undefined
    if (error) throw error.error
    return { done: true, value: undefined }
  }

  /** The first of the results that are there. */
  #take(): Promise<IteratorResult<R, undefined>> {
    const [chunk] = this.#ready as [ChunkResult]
    const item = this.#item++
    if (this.#item === chunk.values.length) this.#consumed()
    if (chunk.errors?.has(item)) return Promise.reject(chunk.errors.get(item))
    return Promise.resolve({ done: false, value: chunk.values[item] as R })
  }

  #consumed(): void {
    this.#item = 0
    this.#ready.shift()
    this.#window.consumed()
    // Refilled by halves: so that what is pulled travels together.
    if (this.#held <= this.#window.chunks / 2) void this.#pump()
  }

  /** Chunks that are pulled and not yet consumed. */
  get #held(): number {
    return this.#chunks.size + this.#ready.length
  }

  async #pump(): Promise<void> {
    if (this.#pumping) return
    this.#pumping = true
    while (this.#state === 'pulling' && this.#held < this.#window.chunks) {
      const items: unknown[] = []
      try {
        // Ended while the input had its reader waiting: it is pulled no more.
        while (this.#state === 'pulling' && items.length < this.imap.chunksize) {
          const step = this.#input.next()
          const { done, value } = step instanceof Promise ? await step : (step as IteratorResult<unknown>)
          if (done) {
            this.#inputEnded()
            break
          }
          items.push(value)
        }
      } catch (error) {
        // An input that fails after the end fails for nobody: its consumer has left, or knows why.
        if (this.#state === 'pulling') this.#error ??= { error }
        this.#inputEnded()
      }
      if (items.length > 0) this.#add(items)
    }
    this.#pumping = false
    this.#checkEnd()
  }

  #inputEnded(): void {
    if (this.#state === 'pulling') this.#state = 'draining'
  }

  #add(items: readonly unknown[]): void {
    if (this.#state === 'ended') return
    const number = this.#pulledChunks++
    const [pulledAt, first] = [performance.now(), this.#pulledItems]
    const chunk: Chunk = { items: items.length, pulledAt, first, payload: undefined, results: undefined }
    this.#pulledItems += items.length
    this.#chunks.set(number, chunk)
    try {
      chunk.payload = encode(items, this.imap.encoding, `item ${chunk.first}`)
      this.#window.sent(chunk.payload.length)
    } catch (error) {
      // It never leaves; its error has its own position like any other.
      return this.#arrived(number, chunk, failedChunk(items.length, error))
    }
    this.#batch.push(number)
    if (this.#batch.length === 1) queueMicrotask(() => this.#send())
  }

  /** Sends what was pulled in one turn as one request. */
  #send(): void {
    const numbers = this.#batch
    this.#batch = []
    if (this.#state === 'ended') return
    const payloads = numbers.flatMap((number) => this.#chunks.get(number)?.payload ?? [])
    const start = ({ pool }: Target) => {
      if (this.#state === 'ended') throw new Failure('CANCELLED', 'the imap has ended')
      const request = this.transport.chunks(
        { ...this.imap.call, pool, spread: false, failFast: false, chunks: payloads },
        (outcome) => this.#outcome(numbers[outcome.chunk], outcome),
      )
      this.#requests.add(request)
      const outcome = request.outcome
        .catch((reason: Failure) => {
          throw numbers.length < this.#pulledChunks ? reason.ofOneAmongMany() : reason
        })
        .finally(() => this.#requests.delete(request))
      return { ...request, outcome }
    }
    this.calls.run(this.target, start).catch((error: unknown) => this.#fail(error))
  }

  #outcome(number: number | undefined, outcome: ChunkOutcome): void {
    const chunk = number === undefined ? undefined : this.#chunks.get(number)
    if (number === undefined || !chunk || chunk.results) return
    this.#window.arrived(chunk.payload?.length ?? 0, performance.now() - chunk.pulledAt, this.#wake.length > 0)
    chunk.payload = undefined
    this.#arrived(number, chunk, decodeChunk(outcome, chunk.items, chunk.first))
  }

  #arrived(number: number, chunk: Chunk, results: ChunkResult): void {
    if (this.#state === 'ended') return
    chunk.results = results
    if (this.imap.ordered) {
      for (let next = this.#chunks.get(this.#nextInOrder); next?.results; next = this.#chunks.get(this.#nextInOrder)) {
        this.#handOut(this.#nextInOrder++, next.results)
      }
    } else this.#handOut(number, results)
    this.#checkEnd()
    this.#signal()
  }

  #handOut(number: number, results: ChunkResult): void {
    this.#chunks.delete(number)
    this.#ready.push(results)
  }

  #checkEnd(): void {
    if (this.#state === 'draining' && this.#chunks.size === 0 && !this.#pumping) this.#ended()
  }

  /** Nothing behind this can be had: a request failed, or was cancelled. The others are given up, with the reason. */
  #fail(error: unknown, reason = new Failure('CANCELLED', 'another request of the imap has failed')): void {
    if (this.#state === 'ended') return
    this.#error = { error }
    if (this.#state === 'pulling') {
      // An input's own clean-up may fail; there is nobody left to be told but the process.
      const closed = async () => this.#input.return?.()
      closed().catch((failure: unknown) => process.emitWarning(String(failure), { type: 'FarpoolInputWarning' }))
    }
    this.#ended()
    for (const request of [...this.#requests]) request.cancel(reason)
  }

  #ended(): void {
    this.#state = 'ended'
    this.#chunks.clear()
    this.#stopListening()
    this.calls.remove(this)
    this.#signal()
  }

  #signal(): void {
    for (const wake of this.#wake.splice(0)) wake()
  }
}
