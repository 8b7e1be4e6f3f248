import { cutChunks, defaultChunksize } from '../wire/chunks.js'
import { Failure } from '../wire/failure.js'
import { REQUEST_TARGET_BYTES } from '../wire/limits.js'
import type { Target } from './backing.js'
import type { Calls } from './calls.js'
import { decodeChunk, type Encoding, encode, type ItemResult } from './encode.js'
import type { MapOptions } from './options.js'
import type { FunctionCall, Transport } from './transport.js'

/** Everything of a map but its items. */
export interface MapCall {
  readonly call: Omit<FunctionCall, 'pool'>
  readonly spread: boolean
  readonly encoding: Encoding
  readonly options: MapOptions
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
export async function runMap(
  calls: Calls,
  transport: Transport,
  target: Promise<Target>,
  items: readonly unknown[],
  { call, spread, encoding, options }: MapCall,
): Promise<unknown[]> {
  if (items.length === 0) return []
  const results: ItemResult[] = new Array(items.length)
  const failFast = new AbortController()
  const failed = (result: ItemResult) => options.failFast === true && !result.ok && failFast.abort(result.error)
  const send = (chunks: readonly Chunk[], { pool }: Target) =>
    transport.chunks(
      { ...call, pool, spread, failFast: options.failFast ?? false, chunks: chunks.map(({ payload }) => payload) },
      (outcome) => {
        const chunk = chunks[outcome.chunk]
        if (!chunk) return
        for (const [at, result] of decodeChunk(outcome, chunk.items, chunk.first).entries()) {
          results[chunk.first + at] = result
          failed(result)
        }
      },
    )
  await calls
    .run(
      target,
      (known) => {
        const chunksize = options.chunksize ?? defaultChunksize(items.length, known.processes)
        const requests = group(encodeChunks(items, chunksize, encoding)).map((chunks) => send(chunks, known))
        const cancel = (reason: Failure) => {
          for (const request of requests) request.cancel(reason)
        }
        const dropRest = () => cancel(new Failure('CANCELLED', 'another item of the map has failed'))
        failFast.signal.addEventListener('abort', dropRest, { once: true })
        return {
          cancel,
          outcome: all(
            requests.map(({ outcome }) => outcome),
            cancel,
          ),
        }
      },
      options.signal,
    )
    .catch((error: unknown) => {
      throw failFast.signal.aborted ? failFast.signal.reason : error
    })
  return options.settle ? results.map(settled) : results.map(orThrow)
}

/** Resolves when all have; the first that rejects ends the others. */
async function all(outcomes: Promise<void>[], cancel: (reason: Failure) => void): Promise<void> {
  try {
    await Promise.all(outcomes)
  } catch (error) {
    cancel(new Failure('CANCELLED', 'another request of the map has failed'))
    await Promise.allSettled(outcomes)
    throw error
  }
}

function encodeChunks(items: readonly unknown[], chunksize: number, encoding: Encoding): Chunk[] {
  let first = 0
  return cutChunks(items, chunksize).map((chunk) => {
    const payload = encode(chunk, encoding, `items ${first} to ${first + chunk.length - 1}`)
    first += chunk.length
    return { payload, items: chunk.length, first: first - chunk.length }
  })
}

/** Groups chunks into requests of a bounded size; a chunk that is larger by itself is a request of its own. */
function group(chunks: readonly Chunk[]): Chunk[][] {
  const groups: Chunk[][] = []
  let bytes = Number.POSITIVE_INFINITY
  for (const chunk of chunks) {
    if (bytes + chunk.payload.length > REQUEST_TARGET_BYTES) {
      groups.push([])
      bytes = 0
    }
    groups.at(-1)?.push(chunk)
    bytes += chunk.payload.length
  }
  return groups
}

function orThrow(result: ItemResult): unknown {
  if (result.ok) return result.value
  throw result.error
}

const settled = (result: ItemResult): PromiseSettledResult<unknown> =>
  result.ok ? { status: 'fulfilled', value: result.value } : { status: 'rejected', reason: result.error }
