import type { ChunkOutcome, IMapResponse, MapRequest } from '../../proto/gen/farpool/routing/v1/routing.js'
import { OnError } from '../../proto/gen/farpool/v1/pool_service.js'
import { IMAP_WINDOW_CHUNKS } from '../../wire/chunks.js'
import { Failure } from '../../wire/failure.js'
import { FRAME_TARGET_BYTES } from '../../wire/protocol.js'
import type { Call } from '../grpc/adapter.js'
import { type ChunkResult, ChunkRun } from './chunk-run.js'
import { failuresOf } from './map-rpc.js'
import type { RpcContext } from './rpc-context.js'

/** Packs what is ready into few messages of a bounded size: grpc-js counts messages, not bytes, for backpressure. */
export function* pack<T>(items: readonly T[], bytesOf: (item: T) => number): Generator<T[]> {
  let packed: T[] = []
  let bytes = 0
  for (const item of items) {
    packed.push(item)
    bytes += bytesOf(item)
    if (bytes < FRAME_TARGET_BYTES) continue
    yield packed
    packed = []
    bytes = 0
  }
  if (packed.length > 0) yield packed
}

/** IMap: every chunk is a task; outcomes are sent as they end, or in the order of the chunks. */
export async function* imap(context: RpcContext, request: MapRequest, call: Call): AsyncGenerator<IMapResponse> {
  context.admission.enter()
  try {
    const window = Math.max(IMAP_WINDOW_CHUNKS, 4 * context.pools.get(request.pool).options.processes)
    const run = new ChunkRun(context, request, window, call, (bytes) => call.holdUnread(bytes))
    const order = new Reorder()
    for (let results = await run.take(); results.length > 0; results = await run.take()) {
      const ready = request.ordered ? order.push(results) : results
      for (const outcomes of pack(ready.map(outcomeOf), outcomeBytes)) {
        // From here on it counts as what is written and not sent.
        for (const { payload } of outcomes) call.holdUnread(-(payload?.length ?? 0))
        yield { outcomes }
      }
      if (request.onError === OnError.ON_ERROR_FAIL_FAST) failOnFirst(run, results)
    }
  } finally {
    context.admission.leave()
  }
}

function failOnFirst(run: ChunkRun, results: readonly ChunkResult[]): void {
  for (const result of results) {
    const failure = run.failureOf(result)
    if (!failure) continue
    run.end(new Failure('CANCELLED', 'another item of the map has failed'))
    throw failure
  }
}

/** Holds what came early until its turn. The window of ChunkRun bounds how much that can be. */
class Reorder {
  readonly #early = new Map<number, ChunkResult>()
  #next = 0

  push(results: readonly ChunkResult[]): ChunkResult[] {
    for (const result of results) this.#early.set(result.chunk, result)
    const ready: ChunkResult[] = []
    for (let result = this.#early.get(this.#next); result; result = this.#early.get(this.#next)) {
      this.#early.delete(this.#next++)
      ready.push(result)
    }
    return ready
  }
}

const outcomeOf = ({ chunk, outcome }: ChunkResult): ChunkOutcome => ({
  chunk,
  payload: outcome.ok ? outcome.payload : undefined,
  failures: failuresOf(chunk, outcome),
})

/** What an outcome takes; a failure is small, and bounded where it was made. */
const outcomeBytes = ({ payload, failures }: ChunkOutcome): number => (payload?.length ?? 0) + 1024 * failures.length
