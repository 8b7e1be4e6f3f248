import { defaultChunksize } from '../wire/chunks.js'
import { Failure } from '../wire/failure.js'
import { AsyncResult } from './async-result.js'
import type { Backing, Target } from './backing.js'
import type { Calls } from './calls.js'
import { onAbort } from './calls.js'
import type { AsyncOptions, MapAsyncOptions, MapOptions } from './options.js'
import { decodeChunk, type Encoding, encode } from './request.js'
import type { FunctionCall, Pending, Transport } from './transport/transport.js'

/** The client cuts the requests of a map at this size: each is on its way while the next is being encoded. */
const REQUEST_TARGET_BYTES = 512 * 1024

/** Everything of a map but its items. */
export interface MapCall {
  /** Its pool is set when it is known. */
  readonly call: FunctionCall
  readonly spread: boolean
  readonly encoding: Encoding
  readonly options: MapOptions
}

/** A map that begins now; a call that cannot be right fails its result. */
export function startMap(
  calls: Calls,
  transport: Transport,
  backing: Backing,
  items: Iterable<unknown>,
  map: Omit<MapCall, 'call' | 'options'> & { call: () => FunctionCall; options: MapAsyncOptions<never> },
): AsyncResult<unknown[]> {
  const stopping = new AbortController()
  const { signal } = map.options
  const stopListening = signal && onAbort(signal, () => stopping.abort(signal.reason))
  const options = { ...map.options, signal: stopping.signal }
  const start = async () =>
    runMap(calls, transport, backing.target(), [...items], { ...map, call: map.call(), options })
  const outcome = start().finally(stopListening)
  return AsyncResult.of(outcome, map.options as AsyncOptions<unknown[]>, { stop: () => stopping.abort() })
}

interface Chunk {
  readonly payload: Uint8Array
  readonly items: number
  /** The index of its first item. */
  readonly first: number
}

/**
 * map and starmap: cuts the items into chunks, sends them in requests of a bounded size, and puts the results into
 * the order of the items. Resolves with the results, or with one outcome per item where `settle` asks for it.
 */
async function runMap(
  calls: Calls,
  transport: Transport,
  target: Promise<Target>,
  items: readonly unknown[],
  { call, spread, encoding, options }: MapCall,
): Promise<unknown[]> {
  if (items.length === 0) return []
  const results: unknown[] = new Array(items.length)
  /** By item. */
  const errors = new Map<number, unknown>()
  const failFast = new AbortController()
  const send = (chunks: readonly Chunk[], { pool }: Target) =>
    transport.chunks(
      { ...call, pool, spread, failFast: options.failFast ?? false, chunks: chunks.map(({ payload }) => payload) },
      (outcome) => {
        const chunk = chunks[outcome.chunk]
        if (!chunk) return
        const { values, errors: failed } = decodeChunk(outcome, chunk.items, chunk.first)
        for (let at = 0; at < values.length; at++) results[chunk.first + at] = values[at]
        if (failed) for (const [at, error] of failed) errors.set(chunk.first + at, error)
        if (failed && options.failFast) failFast.abort(failed.values().next().value)
      },
    )
  await calls
    .run(
      target,
      (known) => {
        const chunksize = options.chunksize ?? defaultChunksize(items.length, known.processes)
        const requests = new Requests((chunks) => send(chunks, known))
        const dropRest = () => requests.cancel(new Failure('CANCELLED', 'another item of the map has failed'))
        failFast.signal.addEventListener('abort', dropRest, { once: true })
        return {
          cancel: (reason) => requests.cancel(reason),
          outcome: requests.run(encodeRequests(items, chunksize, encoding)),
        }
      },
      options.signal,
    )
    .catch((error: unknown) => {
      throw failFast.signal.aborted ? failFast.signal.reason : error
    })
  if (options.settle) return results.map((value, at) => settled(value, errors, at))
  if (errors.size > 0) throw errors.get(least(errors.keys()))
  return results
}

/** The requests of one map: what is encoded is on its way while the rest is being encoded. */
class Requests {
  readonly #sent: Pending<void>[] = []
  #ended: Failure | undefined

  constructor(private readonly send: (chunks: readonly Chunk[]) => Pending<void>) {}

  cancel(reason: Failure): void {
    this.#ended ??= reason
    for (const request of this.#sent) request.cancel(reason)
  }

  /** Resolves when all have ended well; the first that does not ends the others. */
  async run(requests: Iterable<readonly Chunk[]>): Promise<void> {
    try {
      for (const chunks of requests) {
        if (this.#sent.length > 0) await new Promise(setImmediate)
        if (this.#ended) throw this.#ended
        const request = this.send(chunks)
        this.#sent.push(request)
        request.outcome.catch((error: Failure) => {
          // Of the other requests something may have begun.
          this.#ended ??= this.#sent.length > 1 ? error.ofOneAmongMany() : error
        })
      }
      await Promise.all(this.#sent.map(({ outcome }) => outcome))
    } catch (error) {
      this.cancel(new Failure('CANCELLED', 'another request of the map has failed'))
      await Promise.allSettled(this.#sent.map(({ outcome }) => outcome))
      throw error
    }
  }
}

/** Encodes chunk by chunk, and groups them into requests of a bounded size; a chunk larger than that is one by itself. */
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
