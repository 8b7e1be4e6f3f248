import { defaultChunksize } from '../wire/chunks.js'
import { Failure } from '../wire/failure.js'
import { type AsyncResult, type CallSite, callBack, callSite, resultOf } from './async-result.js'
import type { Backing, Target } from './backing.js'
import type { Calls } from './calls.js'
import { Chunk, least, outcomeOf } from './chunk.js'
import type { MapAsyncOptions, Progress } from './options.js'
import type { Encoding } from './request.js'
import type { FunctionCall, Pending, Transport } from './transport/transport.js'

/** A request of a map is sent when its chunks have this size; the next one is encoded while it is under way. */
const REQUEST_TARGET_BYTES = 512 * 1024

/** Without a `chunksize`, a chunk with more bytes than this is cut. */
const CHUNK_MAX_BYTES = 8 * 1024 * 1024

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

  /** Encodes the items chunk by chunk, and groups the chunks into requests. A large chunk is a request of its own. */
  *#requests(chunksize: number): Iterable<Chunk[]> {
    let chunks: Chunk[] = []
    let bytes = 0
    for (let first = 0; first < this.items.length; first += chunksize) {
      for (const chunk of this.#chunksOf(first, Math.min(this.items.length, first + chunksize))) {
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
    }
    if (chunks.length > 0) yield chunks
  }

  /** @throws EncodingError if an item cannot be encoded; with `settle` that is the outcome of the item. */
  #chunksOf(from: number, to: number): Chunk[] {
    const { call, encoding, options } = this.map
    const { chunksize, settle, retry } = options
    const chunk = new Chunk(this.items.slice(from, to), from, { encoding, retry })
    chunk.deadline = call.deadline
    if (chunk.error !== undefined && !settle) throw chunk.error
    if (chunksize !== undefined || to - from === 1 || chunk.payload.length <= CHUNK_MAX_BYTES) return [chunk]
    const parts = Math.min(to - from, Math.ceil(chunk.payload.length / CHUNK_MAX_BYTES) + 1)
    const size = Math.ceil((to - from) / parts)
    const starts = Array.from({ length: Math.ceil((to - from) / size) }, (_, part) => from + part * size)
    return starts.flatMap((start) => this.#chunksOf(start, Math.min(to, start + size)))
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
