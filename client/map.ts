import { defaultChunksize } from '../wire/chunks.js'
import { Failure } from '../wire/failure.js'
import { type AsyncResult, type ResultCallbacks, resultOf } from './async-result.js'
import type { Backing, Target } from './backing.js'
import type { Calls } from './calls.js'
import type { MapOptions } from './options.js'
import { decodeChunk, type Encoding, encode } from './request.js'
import type { ChunkOutcome, FunctionCall, Pending, Transport } from './transport/transport.js'

/** A request of a map is sent when its chunks have this size; the next one is encoded while it is under way. */
const REQUEST_TARGET_BYTES = 512 * 1024

/** A map, without its input. */
export interface MapCall<R> {
  /** Checks and encodes the function and its bound arguments. */
  readonly call: () => FunctionCall
  /** Each item is an array of arguments (starmap). */
  readonly spread: boolean
  readonly encoding: Encoding
  readonly options: MapOptions & ResultCallbacks<R[]>
}

/** Starts a map or starmap. If its input or an option is invalid, its result fails. `R`: the type of one result. */
export function startMap<R>(
  calls: Calls,
  transport: Transport,
  backing: Backing,
  input: Iterable<unknown>,
  map: MapCall<R>,
): AsyncResult<R[]> {
  const { options } = map
  let items: unknown[]
  let call: FunctionCall
  try {
    items = [...input]
    call = map.call()
  } catch (error) {
    return resultOf(endedRequest(Promise.reject(error)), options)
  }
  if (items.length === 0) return resultOf(endedRequest(Promise.resolve<R[]>([])), options)
  const start = (target: Target) => new MapRequests(transport, { ...call, pool: target.pool }, map, items, target)
  return resultOf(calls.run(backing.target(), start, options.signal), options)
}

const endedRequest = <T>(outcome: Promise<T>): Pending<T> => ({ outcome, cancel: () => {} })

interface Chunk {
  readonly payload: Uint8Array
  readonly items: number
  /** The index of its first item in the input. */
  readonly first: number
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
  /** Of all requests that were sent. */
  readonly #outcomes: Promise<void>[] = []
  /** The requests that can be cancelled. */
  readonly #underWay = new Set<Pending<void>>()
  readonly #results: R[]
  /** The errors of the items that failed, by index. */
  readonly #errors = new Map<number, unknown>()
  /** The first reason for which the map ends early. */
  #ended: Failure | undefined
  /** With `failFast`: the error of the first item that failed. */
  #firstError: unknown

  constructor(
    private readonly transport: Transport,
    private readonly call: FunctionCall,
    private readonly map: MapCall<R>,
    private readonly items: readonly unknown[],
    { processes }: Target,
  ) {
    this.#results = new Array(items.length)
    this.outcome = this.#run(map.options.chunksize ?? defaultChunksize(items.length, processes))
  }

  cancel(reason: Failure): void {
    this.#ended ??= reason
    const underWay = [...this.#underWay]
    this.#underWay.clear()
    for (const request of underWay) request.cancel(reason)
  }

  async #run(chunksize: number): Promise<R[]> {
    try {
      for (const chunks of encodeRequests(this.items, chunksize, this.map.encoding)) {
        // Lets the request before this one leave.
        if (this.#outcomes.length > 0) await new Promise(setImmediate)
        if (this.#ended) throw this.#ended
        this.#send(chunks)
      }
      await Promise.all(this.#outcomes)
    } catch (error) {
      const cause = this.#firstError ?? this.#ended ?? error
      this.cancel(new Failure('CANCELLED', 'another request of the map has failed'))
      await Promise.allSettled(this.#outcomes)
      throw cause
    }
    const errors = this.#errors
    if (this.map.options.settle) return this.#results.map((value, at) => settled(value, errors, at)) as R[]
    if (errors.size > 0) throw errors.get(least(errors.keys()))
    return this.#results
  }

  #send(chunks: readonly Chunk[]): void {
    const request = this.transport.chunks(
      {
        ...this.call,
        spread: this.map.spread,
        failFast: this.map.options.failFast ?? false,
        chunks: chunks.map(({ payload }) => payload),
      },
      (outcome) => this.#onOutcome(chunks[outcome.chunk], outcome),
    )
    this.#underWay.add(request)
    const outcome = request.outcome.finally(() => this.#underWay.delete(request))
    this.#outcomes.push(outcome)
    outcome.catch((reason: Failure) => {
      // Calls of other requests may have started.
      this.#ended ??= this.#outcomes.length > 1 ? reason.ofOneAmongMany() : reason
    })
  }

  #onOutcome(chunk: Chunk | undefined, outcome: ChunkOutcome): void {
    if (!chunk) return
    const { values, errors } = decodeChunk(outcome, chunk.items, chunk.first)
    for (let at = 0; at < values.length; at++) this.#results[chunk.first + at] = values[at] as R
    if (!errors) return
    for (const [at, error] of errors) this.#errors.set(chunk.first + at, error)
    if (!this.map.options.failFast || this.#firstError !== undefined) return
    this.#firstError = errors.values().next().value
    this.cancel(new Failure('CANCELLED', 'another item of the map has failed'))
  }
}

/** Encodes the items chunk by chunk, and groups the chunks into requests. A large chunk is a request of its own. */
function* encodeRequests(items: readonly unknown[], chunksize: number, encoding: Encoding): Iterable<Chunk[]> {
  let chunks: Chunk[] = []
  let bytes = 0
  for (let first = 0; first < items.length; first += chunksize) {
    const chunk = items.slice(first, first + chunksize)
    const payload = encode(chunk, encoding, `items ${first} to ${first + chunk.length - 1}`)
    chunks.push({ payload, items: chunk.length, first })
    bytes += payload.length
    if (bytes < REQUEST_TARGET_BYTES) continue
    yield chunks
    chunks = []
    bytes = 0
  }
  if (chunks.length > 0) yield chunks
}

const settled = (value: unknown, errors: ReadonlyMap<number, unknown>, at: number): PromiseSettledResult<unknown> =>
  errors.has(at) ? { status: 'rejected', reason: errors.get(at) } : { status: 'fulfilled', value }

function least(numbers: Iterable<number>): number {
  let least = Number.POSITIVE_INFINITY
  for (const number of numbers) least = Math.min(least, number)
  return least
}
