import { Failure } from '../wire/failure.js'
import { MAX_TIMER_MS } from '../wire/protocol.js'
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

/**
 * The items of one chunk of a map or imap, until each has a result or an error. Usually that takes one request. Items that
 * were not run, because the results before them were large, and items that `retry` makes again, are sent once more.
 */
export class Chunk {
  /** What is sent: `#sent`, encoded. */
  payload: Uint8Array = NOTHING
  /** The places of the items in the payload; undefined for all. */
  #sent: readonly number[] | undefined
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
    private readonly encoding: Encoding,
    private readonly retry: RetryOptions | undefined,
  ) {
    this.#encode(undefined)
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
    return this.#take(values as unknown[], errors, end)
  }

  /** All items that have no outcome yet fail with this error. */
  fail(error: unknown): void {
    for (let at = 0; at < this.#count; at++) this.#failed(this.#place(at), error)
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
    const again: number[] = []
    let taken = 0
    let pause = 0
    for (let at = 0; at < this.#count; at++) {
      const place = this.#place(at)
      if (at >= end) again.push(place)
      // With `failFast`, the items behind the one that failed have no value.
      else if (!errors.has(at)) this.#values[place] = values[taken++]
      else {
        const wait = this.#pauseBefore(place, errors.get(at))
        if (wait === undefined) this.#failed(place, errors.get(at))
        else again.push(place)
        pause = Math.max(pause, wait ?? 0)
      }
    }
    this.#encode(again)
    return this.hasEnded ? undefined : pause
  }

  /** The pause before an item that failed is made again; undefined if its error is final. */
  #pauseBefore(place: number, error: unknown): number | undefined {
    const attempts = this.#attempts?.get(place) ?? 0
    const pause = pauseBefore(this.retry, attempts, error)
    if (pause === undefined) return undefined
    this.#attempts ??= new Map()
    this.#attempts.set(place, attempts + 1)
    return pause
  }

  /** Encodes the items at these places, undefined for all, to be sent. Those that cannot be encoded have failed. */
  #encode(places: readonly number[] | undefined): void {
    this.#sent = places
    const items = places ? places.map((place) => this.items[place]) : this.items
    try {
      this.payload = items.length > 0 ? encode(items, this.encoding, 'the items') : NOTHING
    } catch (error) {
      const good = [...(places ?? items.keys())].filter((place) => this.#canBeSent(place))
      if (good.length < items.length) return this.#encode(good)
      // Each can be encoded, but not all together, for example because of their size.
      this.fail(error)
    }
  }

  /** If it cannot, it has failed. */
  #canBeSent(place: number): boolean {
    const what = `item ${this.first + place}`
    try {
      encode(this.items[place], this.encoding, what)
      // In an array it is one level deeper, and JSON has no undefined there.
      encode([this.items[place]], this.encoding, what)
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

  /** The number of items in the payload. */
  get #count(): number {
    return this.#sent?.length ?? this.items.length
  }

  #place(at: number): number {
    return this.#sent?.[at] ?? at
  }

  /** The error of an item of the payload. Where its size is the reason, the message says which item it is. */
  #errorOf(failure: Failure, at: number): FarpoolError {
    const index = this.first + this.#place(at)
    if (failure.reason !== 'RESULT_TOO_LARGE') return errorOf(failure, index)
    const { reason, message, started = 'unknown', metadata } = failure
    const named = `the result of item ${index} is too large: ${message}`
    return errorOf(new Failure(reason, named, { started, metadata }), index)
  }
}

const NOTHING = new Uint8Array()

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

/** The failure of a request of these chunks. If one is too large for a message, it says which, and what to do. */
export function failureOfRequest(reason: Failure, chunks: readonly Chunk[]): Failure {
  if (reason.reason !== 'PAYLOAD_TOO_LARGE' || chunks.length === 0) return reason
  const { first, items } = chunks.reduce((a, b) => (a.payload.length >= b.payload.length ? a : b))
  const message =
    items.length === 1
      ? `item ${first} is too large: ${reason.message}`
      : `the chunk of items ${first} to ${first + items.length - 1} is too large: ${reason.message}; use a smaller chunksize`
  const { started = 'unknown', metadata } = reason
  return new Failure(reason.reason, message, { started, metadata })
}

/**
 * The pause before a call is made again, in milliseconds.
 * @param attempts how often it was made again before.
 * @returns undefined if the error is final.
 */
export function pauseBefore(retry: RetryOptions | undefined, attempts: number, error: unknown): number | undefined {
  if (retry === undefined || attempts >= retry.times) return undefined
  const { delay = 0, backoff = 1, on = (thrown: unknown) => thrown instanceof RemoteError } = retry
  try {
    return isFinal(error) || on(error) !== true ? undefined : Math.min(MAX_TIMER_MS, delay * backoff ** attempts)
  } catch (thrown) {
    warn(thrown)
    return undefined
  }
}

/** The caller has ended the call, or no later attempt can be better. */
const isFinal = (error: unknown): boolean =>
  error instanceof FarpoolError &&
  ['CANCELLED', 'POOL_TERMINATED', 'POOL_CLOSED', 'BAD_REQUEST', 'ARGUMENT_ENCODE_FAILED'].includes(error.reason)
