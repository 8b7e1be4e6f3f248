import { Failure } from '../wire/failure.js'
import { IMAP_WINDOW_CHUNKS } from '../wire/limits.js'
import { settledWithin } from './async-result.js'
import type { Target } from './backing.js'
import { abortFailure, type Calls, type Cancellable } from './calls.js'
import { decodeChunk, type Encoding, encode, type ItemResult } from './encode.js'
import { errorOf } from './errors.js'
import { checkTimeout } from './options.js'
import { onAbort } from './signals.js'
import type { ChunkOutcome, FunctionCall, Transport } from './transport.js'

/** Everything of an imap but its input. */
export interface ImapCall {
  readonly call: Omit<FunctionCall, 'pool'>
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
  /** The index of its first item in the input. */
  readonly first: number
  payload: Uint8Array | undefined
  /** Arrived, but not its turn yet. */
  results: ItemResult[] | undefined
}

/** A result that can be handed out; with the last one of a chunk, the chunk has been consumed. */
interface Ready {
  readonly result: ItemResult
  readonly last: boolean
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
  readonly #ready: Ready[] = []
  /** Chunks with results in #ready. */
  #unconsumed = 0
  /** Chunks to be sent together. */
  #batch: number[] = []
  #pulledChunks = 0
  #pulledItems = 0
  /** Ordered: the chunk whose results are handed out next. */
  #nextInOrder = 0
  #window = IMAP_WINDOW_CHUNKS
  #pumping = false
  /** Thrown behind the last result. */
  #error: { readonly error: unknown } | undefined
  #wake: (() => void)[] = []
  #stopListening: () => void = () => {}
  /** Serialises next(): results are handed out in the order in which they were asked for. */
  #turn: Promise<unknown> = Promise.resolve()

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
        this.#window = Math.max(this.#window, 4 * processes)
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
    const turn = this.#turn.then(() => this.#next(timeout))
    this.#turn = turn.catch(() => {})
    return turn
  }

  /** The consumer leaves: what is under way is cancelled, the input is closed. */
  async return(): Promise<IteratorResult<R, undefined>> {
    this.cancel(new Failure('CANCELLED', 'the iteration was ended by its consumer'))
    this.#error = undefined
    this.#ready.length = 0
    return { done: true, value: undefined }
  }

  /** Results that have arrived are still handed out, then the error. */
  cancel(reason: Failure): void {
    if (this.#state === 'ended') return
    this.#fail(errorOf(reason))
    for (const request of [...this.#requests]) request.cancel(reason)
  }

  /** Pulls the whole input from now on: the pool is being joined. */
  lift(): void {
    this.#window = Number.POSITIVE_INFINITY
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
    const ready = this.#ready.shift()
    if (!ready) {
      const error = this.#error
      this.#error = undefined
      if (error) throw error.error
      return { done: true, value: undefined }
    }
    if (ready.last) {
      this.#unconsumed--
      // Refilled by halves: so that what is pulled travels together.
      if (this.#held <= this.#window / 2) void this.#pump()
    }
    if (!ready.result.ok) throw ready.result.error
    return { done: false, value: ready.result.value as R }
  }

  /** Chunks that are pulled and not yet consumed. */
  get #held(): number {
    return this.#chunks.size + this.#unconsumed
  }

  async #pump(): Promise<void> {
    if (this.#pumping) return
    this.#pumping = true
    while (this.#state === 'pulling' && this.#held < this.#window) {
      const items: unknown[] = []
      try {
        while (items.length < this.imap.chunksize) {
          const step = this.#input.next()
          const { done, value } = step instanceof Promise ? await step : (step as IteratorResult<unknown>)
          if (done) {
            this.#inputEnded()
            break
          }
          items.push(value)
        }
      } catch (error) {
        this.#error ??= { error }
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
    const chunk: Chunk = { items: items.length, first: this.#pulledItems, payload: undefined, results: undefined }
    this.#pulledItems += items.length
    this.#chunks.set(number, chunk)
    try {
      chunk.payload = encode(items, this.imap.encoding, `item ${chunk.first}`)
    } catch (error) {
      // It never leaves; its error has its own position like any other.
      this.#arrived(
        number,
        chunk,
        items.map(() => ({ ok: false, error })),
      )
      return
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
      const request = this.transport.chunks(
        { ...this.imap.call, pool, spread: false, failFast: false, chunks: payloads },
        (outcome) => this.#outcome(numbers[outcome.chunk], outcome),
      )
      this.#requests.add(request)
      return { ...request, outcome: request.outcome.finally(() => this.#requests.delete(request)) }
    }
    this.calls.run(this.target, start).catch((error: unknown) => this.#fail(error))
  }

  #outcome(number: number | undefined, outcome: ChunkOutcome): void {
    const chunk = number === undefined ? undefined : this.#chunks.get(number)
    if (number === undefined || !chunk || chunk.results) return
    chunk.payload = undefined
    this.#arrived(number, chunk, decodeChunk(outcome, chunk.items, chunk.first))
  }

  #arrived(number: number, chunk: Chunk, results: ItemResult[]): void {
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

  #handOut(number: number, results: readonly ItemResult[]): void {
    this.#chunks.delete(number)
    this.#unconsumed++
    for (const [at, result] of results.entries()) this.#ready.push({ result, last: at === results.length - 1 })
  }

  #checkEnd(): void {
    if (this.#state === 'draining' && this.#chunks.size === 0 && !this.#pumping) this.#ended()
  }

  /** Nothing behind this can be had: the request itself failed, or was cancelled. */
  #fail(error: unknown): void {
    if (this.#state === 'ended') return
    this.#error = { error }
    if (this.#state === 'pulling') {
      // An input's own clean-up may fail; there is nobody left to be told but the process.
      const closed = async () => this.#input.return?.()
      closed().catch((failure: unknown) => process.emitWarning(String(failure), { type: 'FarpoolInputWarning' }))
    }
    this.#ended()
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
