import { halfway } from '../wire/chunks.js'
import { Failure } from '../wire/failure.js'
import { MAX_TIMER_MS } from '../wire/protocol.js'
import type { Reason } from '../wire/reason.js'
import { sizeBound } from '../wire/values/size-bound.js'
import { type CallSite, locate, warn } from './async-result.js'
import { errorOf, FarpoolError, RemoteError } from './errors.js'
import type { RetryOptions } from './options.js'
import { decode, type Encoding, encode } from './request.js'
import type { ChunkOutcome } from './transport/transport.js'

/** The outcome of all items of a chunk. */
export interface ChunkResult {
  /** The index of the first item in the input. */
  readonly first: number
  /** One value for each item, in order; undefined if the item failed. */
  readonly values: readonly unknown[]
  /** The errors of the items that failed, by the item's place in the chunk; undefined if none failed. */
  readonly errors: ReadonlyMap<number, unknown> | undefined
}

/** What the chunks of one map or imap have in common. */
export interface ChunkOptions {
  readonly encoding: Encoding
  readonly retry: RetryOptions | undefined
}

/** Items of a chunk that are sent together, by place. */
interface Part {
  readonly places: readonly number[]
  /** When it may be sent; a time of performance.now(). */
  readonly notBefore: number
}

/**
 * The items of one chunk of a map or imap, until each has a result or an error. Usually that takes one request. These
 * items are sent in further requests, one after the other: items that were not run, because the results before them were
 * large; items that `retry` makes again; and the halves of a chunk that is too large for a message.
 */
export class Chunk {
  /** What is sent: `#sent`, encoded. */
  payload: Uint8Array = NOTHING
  /** The Unix time, in milliseconds, at which the time of its items ends; undefined for no limit. */
  deadline: number | undefined
  /** The places of the items in the payload; undefined for all. */
  #sent: readonly number[] | undefined
  /** What is sent after that. */
  readonly #later: Part[] = []
  #values: unknown[] | undefined
  /** By place. */
  #errors: Map<number, unknown> | undefined
  /** How often an item was made again, by place. */
  #attempts: Map<number, number> | undefined

  /**
   * Encodes the items. Those that cannot be encoded have failed; `hasEnded` if these are all.
   * @param first the index of the first item in the input.
   */
  constructor(
    readonly items: readonly unknown[],
    readonly first: number,
    private readonly options: ChunkOptions,
  ) {
    this.#encode(undefined)
    if (this.hasEnded) this.#next()
  }

  /** Whether every item has a result or an error. */
  get hasEnded(): boolean {
    return this.payload.length === 0
  }

  get result(): ChunkResult {
    return { first: this.first, values: this.#values ?? new Array(this.items.length), errors: this.#errors }
  }

  /** The first error of an item, if one has failed. */
  get error(): unknown {
    return this.#errors?.get(least(this.#errors.keys()))
  }

  /**
   * The outcome of the payload has arrived.
   * @param failFast the worker stopped at the first item that failed.
   * @returns the pause in milliseconds after which the new payload has to be sent; undefined if the chunk has ended.
   */
  settle({ payload, failures }: ChunkOutcome, failFast = false): number | undefined {
    const count = this.#count
    const isTooLarge = failures.some(
      ({ item, failure }) => item === undefined && failure.reason === 'PAYLOAD_TOO_LARGE',
    )
    if (isTooLarge && count > 1) {
      this.#halve()
      return this.#next()
    }
    const errors = new Map<number, unknown>()
    /** The items from here on were not run. */
    let end = count
    for (const { item, failure } of failures) {
      // A worker that ran nothing would be asked for ever.
      if (failure.reason === 'CHUNK_FULL' && item) end = Math.min(end, item)
      else if (item !== undefined) errors.set(item, this.#errorOf(failure, item))
      else for (let at = 0; at < count; at++) errors.set(at, this.#errorOf(failure, at))
    }
    let values: unknown
    try {
      values = payload && payload.length > 0 ? decode(payload) : []
      const ran = Array.isArray(values) ? values.length + errors.size : 0
      if (ran !== end && !(failFast && errors.size > 0 && ran < end)) {
        throw errorOf(new Failure('INTERNAL', `a chunk of ${count} items came back with another number of results`))
      }
    } catch (error) {
      for (let at = 0; at < count; at++) errors.set(at, error)
      values = []
      end = count
    }
    const pause = this.#take(values as unknown[], errors, end)
    if (!failFast || this.#errors === undefined) return pause
    this.#later.length = 0
    this.payload = NOTHING
    return undefined
  }

  /** All items that have no outcome yet fail with this error. */
  fail(error: unknown): void {
    for (let at = 0; at < this.#count; at++) this.#failed(this.#place(at), error)
    for (const { places } of this.#later.splice(0)) for (const place of places) this.#failed(place, error)
    this.payload = NOTHING
  }

  /** @param end the items of the payload from this one on were not run. */
  #take(values: unknown[], errors: ReadonlyMap<number, unknown>, end: number): number | undefined {
    if (errors.size === 0 && end === this.items.length) {
      this.#values = values
      this.payload = NOTHING
      return undefined
    }
    this.#values ??= new Array(this.items.length)
    const notRun: number[] = []
    const again: number[] = []
    let taken = 0
    let pause = 0
    for (let at = 0; at < this.#count; at++) {
      const place = this.#place(at)
      if (at >= end) notRun.push(place)
      // With `failFast`, the items behind the one that failed have no value.
      else if (!errors.has(at)) this.#values[place] = values[taken++]
      else {
        const wait = this.#pauseBefore(place, errors.get(at))
        if (wait === undefined) this.#failed(place, errors.get(at))
        else again.push(place)
        pause = Math.max(pause, wait ?? 0)
      }
    }
    const now = performance.now()
    this.#later.unshift({ places: notRun, notBefore: now }, { places: again, notBefore: now + pause })
    return this.#next()
  }

  /** The pause before an item that failed is made again; undefined if its error is final. */
  #pauseBefore(place: number, error: unknown): number | undefined {
    const attempts = this.#attempts?.get(place) ?? 0
    const pause = pauseBefore(this.options.retry, attempts, error, this.deadline)
    if (pause === undefined) return undefined
    this.#attempts ??= new Map()
    this.#attempts.set(place, attempts + 1)
    return pause
  }

  /** Encodes the next part. Returns the pause before it is sent; undefined if there is none. */
  #next(): number | undefined {
    this.payload = NOTHING
    for (let part = this.#later.shift(); part; part = this.#later.shift()) {
      if (part.places.length > 0) this.#encode(part.places)
      if (!this.hasEnded) return Math.max(0, part.notBefore - performance.now())
    }
    return undefined
  }

  /** Encodes the items at these places, undefined for all, to be sent. Those that cannot be encoded have failed. */
  #encode(places: readonly number[] | undefined): void {
    this.#sent = places
    const items = places ? places.map((place) => this.items[place]) : this.items
    try {
      this.payload = encode(items, this.options.encoding, 'the items')
    } catch (error) {
      this.payload = NOTHING
      const good = [...(places ?? items.keys())].filter((place) => this.#canBeSent(place))
      if (good.length < items.length) this.#later.unshift({ places: good, notBefore: 0 })
      // Each can be encoded, but not all together, for example because of their size.
      else if (items.length > 1) this.#halve()
      else this.#failed(this.#place(0), error)
    }
  }

  /** What was to be sent together is sent in two parts, of about the same size. */
  #halve(): void {
    const places = this.#sent ?? [...this.items.keys()]
    const { encoding } = this.options
    const cut = halfway(places.map((place) => sizeBound(this.items[place], encoding, Number.POSITIVE_INFINITY)))
    this.#later.unshift({ places: places.slice(0, cut), notBefore: 0 }, { places: places.slice(cut), notBefore: 0 })
  }

  /** If it cannot, it has failed. */
  #canBeSent(place: number): boolean {
    const what = `item ${this.first + place}`
    const { encoding } = this.options
    try {
      encode(this.items[place], encoding, what)
      // In an array it is one level deeper, and JSON has no undefined there.
      encode([this.items[place]], encoding, what)
      return true
    } catch (error) {
      this.#failed(place, error)
      return false
    }
  }

  #failed(place: number, error: unknown): void {
    this.#errors ??= new Map()
    this.#errors.set(place, error)
  }

  /** The error of an item of the payload. Where its size is the reason, the message says which item it is. */
  #errorOf(failure: Failure, at: number): FarpoolError {
    const index = this.first + this.#place(at)
    const what = TOO_LARGE[failure.reason]
    if (what === undefined) return errorOf(failure, index)
    const { reason, message, started = 'unknown', metadata } = failure
    return errorOf(new Failure(reason, `${what} ${index} is too large: ${message}`, { started, metadata }), index)
  }

  /** The number of items in the payload. */
  get #count(): number {
    return this.#sent?.length ?? this.items.length
  }

  #place(at: number): number {
    return this.#sent?.[at] ?? at
  }
}

const NOTHING = new Uint8Array()

const TOO_LARGE: Partial<Record<Reason, string>> = { PAYLOAD_TOO_LARGE: 'item', RESULT_TOO_LARGE: 'the result of item' }

/** With `settle`: the outcome of the item at this place. @param site where the program made the call. */
export const outcomeOf = (
  value: unknown,
  errors: ReadonlyMap<number, unknown> | undefined,
  at: number,
  site: CallSite | undefined,
): PromiseSettledResult<unknown> =>
  errors?.has(at) ? { status: 'rejected', reason: locate(errors.get(at), site) } : { status: 'fulfilled', value }

/** The least of the numbers. There may be a million, too many for the arguments of Math.min. */
export function least(numbers: Iterable<number>): number {
  let least = Number.POSITIVE_INFINITY
  for (const number of numbers) least = Math.min(least, number)
  return least
}

/**
 * The pause before a call is made again, in milliseconds.
 * @param attempts how often it was made again before.
 * @param deadline the Unix time, in milliseconds, by which the pause has to end; undefined for no limit.
 * @returns undefined if the error is final.
 */
export function pauseBefore(
  retry: RetryOptions | undefined,
  attempts: number,
  error: unknown,
  deadline: number | undefined,
): number | undefined {
  if (retry === undefined || attempts >= retry.times) return undefined
  const { delay = 0, backoff = 1, on = (thrown: unknown) => thrown instanceof RemoteError } = retry
  const pause = Math.min(MAX_TIMER_MS, delay * backoff ** attempts)
  if (deadline !== undefined && Date.now() + pause > deadline) return undefined
  try {
    return !isFinal(error) && on(error) === true ? pause : undefined
  } catch (thrown) {
    warn(thrown)
    return undefined
  }
}

/** The caller has ended the call, or no later attempt can be better. */
const isFinal = (error: unknown): boolean => error instanceof FarpoolError && FINAL.has(error.reason)

const FINAL: ReadonlySet<Reason> = new Set<Reason>([
  'CANCELLED',
  'POOL_TERMINATED',
  'POOL_CLOSED',
  'BAD_REQUEST',
  'ARGUMENT_ENCODE_FAILED',
  'PAYLOAD_TOO_LARGE',
])
