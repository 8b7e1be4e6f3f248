import { defaultChunksize } from '../wire/chunks.js'
import { Failure } from '../wire/failure.js'
import { sizeBound } from '../wire/values/size-bound.js'
import { type AsyncResult, type CallSite, callBack, callSite, resultOf } from './async-result.js'
import type { Backing, Target } from './backing.js'
import type { Calls } from './calls.js'
import { Chunk, least, outcomeOf } from './chunk.js'
import type { MapAsyncOptions, Progress } from './options.js'
import type { Encoding } from './request.js'
import type { FunctionCall, Pending, Transport } from './transport/transport.js'

/** A request of a map is sent when its chunks have this size; the next one is encoded while it is under way. */
const REQUEST_TARGET_BYTES = 512 * 1024

/** Without a `chunksize`, a chunk of several items has at most this many bytes, as far as SAMPLES of its items tell. */
const CHUNK_MAX_BYTES = 8 * 1024 * 1024

/** To look at each of a million small items would take a third of the time of encoding them. */
const SAMPLES = 64

/** A map, without its input. */
export interface MapCall<R> {
  /** Its pool is not set yet. */
  readonly call: FunctionCall
  /** Each item is an array of arguments (starmap). */
  readonly spread: boolean
  readonly encoding: Encoding
  readonly options: MapAsyncOptions<R[]>
}

/** Starts a map or starmap. `R`: the type of one result. */
export function startMap<R>(
  calls: Calls,
  transport: Transport,
  backing: Backing,
  items: readonly unknown[],
  map: MapCall<R>,
): AsyncResult<R[]> {
  const { options } = map
  if (items.length === 0) return resultOf({ outcome: Promise.resolve<R[]>([]), cancel: () => {} }, options)
  const call = { ...map, site: options.settle ? callSite() : undefined }
  const start = ({ pool, processes }: Target) =>
    new MapRequests(transport, { ...call, call: { ...map.call, pool } }, items, processes)
  const { deadline, timeoutMs } = map.call
  return resultOf(calls.run(backing.target(), start, { signal: options.signal, deadline, timeoutMs }), options)
}

/**
 * The requests of one map: cuts the items into chunks, sends them in requests of a bounded size, and puts the results into
 * the order of the items. While a request is under way, the next one is encoded. The first request that fails ends the
 * others.
 *
 * The outcome is the results, or with `settle` one outcome per item. It rejects with a Failure, or with the error of an
 * item.
 */
class MapRequests<R> implements Pending<R[]> {
  readonly outcome: Promise<R[]>
  /** Of the requests that are under way, or wait to be sent again. */
  readonly #outcomes = new Set<Promise<void>>()
  #sentRequests = 0
  /** The requests that can be cancelled. */
  readonly #underWay = new Set<Pending<void>>()
  /** Ends the pauses before chunks are sent again. */
  readonly #pauses = new Set<() => void>()
  readonly #results: R[]
  /** The errors of the items that failed, by index. */
  readonly #errors = new Map<number, unknown>()
  /** The first reason for which the map ends early. */
  #ended: Failure | undefined
  /** With `failFast`: the error of the first item that failed. */
  #firstError: unknown
  readonly #progress: ProgressReport | undefined

  constructor(
    private readonly transport: Transport,
    private readonly map: MapCall<R> & { readonly site: CallSite | undefined },
    private readonly items: readonly unknown[],
    processes: number,
  ) {
    const { options } = map
    this.#progress = options.onProgress && new ProgressReport(options.onProgress)
    this.#results = new Array(items.length)
    this.outcome = this.#run(options.chunksize ?? defaultChunksize(items.length, processes))
  }

  cancel(reason: Failure): void {
    this.#ended ??= reason
    const underWay = [...this.#underWay]
    this.#underWay.clear()
    for (const request of underWay) request.cancel(reason)
    for (const end of [...this.#pauses]) end()
  }

  async #run(chunksize: number): Promise<R[]> {
    try {
      for (const chunks of this.#requests(chunksize)) {
        // Lets the request before this one leave.
        if (this.#sentRequests > 0) await new Promise(setImmediate)
        if (this.#ended) throw this.#ended
        this.#send(chunks)
      }
      while (this.#outcomes.size > 0) await Promise.all(this.#outcomes)
      if (this.#ended) throw this.#ended
    } catch (error) {
      const cause = this.#firstError ?? this.#ended ?? error
      this.cancel(new Failure('CANCELLED', 'another request of the map has failed'))
      while (this.#outcomes.size > 0) await Promise.allSettled(this.#outcomes)
      throw cause
    }
    const errors = this.#errors
    const { options, site } = this.map
    if (options.settle) return this.#results.map((value, at) => outcomeOf(value, errors, at, site)) as R[]
    if (errors.size > 0) throw errors.get(least(errors.keys()))
    return this.#results
  }

  /**
   * Encodes the items chunk by chunk, and groups the chunks into requests. A large chunk is a request of its own.
   * @throws EncodingError if an item cannot be encoded; with `settle` that is the outcome of the item.
   */
  *#requests(chunksize: number): Iterable<Chunk[]> {
    const { call, encoding, options } = this.map
    const chunkOptions = { encoding, retry: options.retry }
    let chunks: Chunk[] = []
    let bytes = 0
    for (let from = 0; from < this.items.length; ) {
      const to = this.#endOf(from, chunksize)
      const chunk = new Chunk(this.items.slice(from, to), from, chunkOptions)
      from = to
      if (chunk.error !== undefined && !options.settle) throw chunk.error
      chunk.deadline = call.deadline
      if (chunk.hasEnded) {
        this.#take(chunk)
        continue
      }
      chunks.push(chunk)
      bytes += chunk.payload.length
      if (bytes < REQUEST_TARGET_BYTES) continue
      yield chunks
      chunks = []
      bytes = 0
    }
    if (chunks.length > 0) yield chunks
  }

  /** Where the chunk ends that begins at this item: after `chunksize` items, or before they have more than CHUNK_MAX_BYTES. */
  #endOf(from: number, chunksize: number): number {
    const end = Math.min(this.items.length, from + chunksize)
    if (this.map.options.chunksize !== undefined) return end
    // Each item that is looked at stands for so many.
    const step = Math.ceil((end - from) / SAMPLES)
    let left = CHUNK_MAX_BYTES
    for (let at = from; at < end; at += step) {
      const size = sizeBound(this.items[at], this.map.encoding, CHUNK_MAX_BYTES)
      if (step * size > left) return Math.max(from + 1, Math.min(end, at + Math.floor(left / size)))
      left -= step * size
    }
    return end
  }

  #send(chunks: readonly Chunk[]): void {
    this.#sentRequests++
    // An item that may be made again must not end its chunk.
    const failFast = this.map.options.failFast === true && this.map.options.retry === undefined
    const request = this.transport.chunks(
      {
        ...this.map.call,
        spread: this.map.spread,
        failFast,
        chunks: chunks.map(({ payload }) => payload),
      },
      (outcome) => {
        const chunk = chunks[outcome.chunk]
        if (!chunk) return
        const pause = chunk.settle(outcome, failFast)
        if (pause === undefined) this.#take(chunk)
        else this.#sendAgain(chunk, pause)
      },
    )
    this.#underWay.add(request)
    this.#track(
      request.outcome
        .finally(() => this.#underWay.delete(request))
        .catch((reason: Failure) => {
          // Calls of other requests may have started.
          this.#ended ??= this.#sentRequests > 1 ? reason.ofOneAmongMany() : reason
          throw this.#ended
        }),
    )
  }

  #sendAgain(chunk: Chunk, pauseMs: number): void {
    const pause = new Promise<void>((resolve) => {
      const end = () => {
        clearTimeout(timer)
        this.#pauses.delete(end)
        resolve()
      }
      const timer = setTimeout(end, pauseMs)
      this.#pauses.add(end)
    })
    this.#track(
      pause.then(() => {
        if (!this.#ended) this.#send([chunk])
      }),
    )
  }

  #track(outcome: Promise<void>): void {
    this.#outcomes.add(outcome)
    const forget = () => void this.#outcomes.delete(outcome)
    outcome.then(forget, forget)
  }

  #take(chunk: Chunk): void {
    const { first, values, errors } = chunk.result
    for (let at = 0; at < values.length; at++) this.#results[first + at] = values[at] as R
    this.#progress?.add(values.length, this.items.length)
    if (!errors) return
    for (const [at, error] of errors) this.#errors.set(first + at, error)
    if (!this.map.options.failFast || this.#firstError !== undefined) return
    this.#firstError = chunk.error
    this.cancel(new Failure('CANCELLED', 'another item of the map has failed'))
  }
}

/** Counts the items that have ended, for `onProgress`. */
export class ProgressReport {
  readonly #startedAt = performance.now()
  #done = 0

  constructor(private readonly onProgress: (progress: Progress) => unknown) {}

  add(items: number, total: number | undefined): void {
    this.#done += items
    const seconds = (performance.now() - this.#startedAt) / 1000
    callBack(this.onProgress, { done: this.#done, total, rate: seconds > 0 ? this.#done / seconds : 0 })
  }
}
