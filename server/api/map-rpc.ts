import type { Outcome } from '../../pool/scheduler/task.js'
import type { ItemFailure, MapRequest, MapResponse } from '../../proto/gen/farpool/routing/v1/routing.js'
import { OnError } from '../../proto/gen/farpool/v1/pool_service.js'
import { Failure, failureToStatus } from '../../wire/failure.js'
import type { Call } from '../grpc/adapter.js'
import { cutOff } from '../limits/memory-budget.js'
import { whatOf } from './apply-rpc.js'
import { type ChunkResult, ChunkRun } from './chunk-run.js'
import type { Begun } from './request-deduplication.js'
import type { RpcContext } from './rpc-context.js'

/** Chunks of one Map request that are in the queue or running at once: as many as keep any pool at work. */
const MAP_WINDOW_CHUNKS = 4_096

/** Map: every chunk is a task; the answer comes when all have ended. */
export async function map(context: RpcContext, request: MapRequest, call: Call): Promise<MapResponse> {
  context.admission.enter()
  try {
    if (request.requestId === '') return await answer(context, request, call)
    const onEnd = (listener: (reason: Failure) => void) => call.onEnd(listener)
    const what = whatOf('Map', request, [
      ...request.chunks,
      ...request.args,
      Buffer.of(Number(request.spread), request.onError),
    ])
    return await context.joins.join(request.requestId, what, () => begin(context, request, call), onEnd)
  } finally {
    context.admission.leave()
  }
}

/** A map that does not end with its caller (joins.ts), whose connection may be gone long before: it counts for itself. */
function begin(context: RpcContext, request: MapRequest, { client, deadline }: Call): Begun<MapResponse> {
  let cancel: (reason: Failure) => void = () => {}
  const account = context.budget.open(() => cancel(cutOff()))
  const call: Call = {
    client,
    deadline,
    hold: (bytes) => account.add(bytes),
    holdUnread: (bytes) => account.addUnread(bytes),
    onEnd: (listener) => {
      cancel = listener
    },
  }
  const outcome = answer(context, request, call).finally(() => account.close())
  return { outcome, cancel: (reason) => cancel(reason) }
}

async function answer(context: RpcContext, request: MapRequest, call: Call): Promise<MapResponse> {
  const run = new ChunkRun(context, request, MAP_WINDOW_CHUNKS, call, (bytes) => call.hold(bytes))
  const { maxMessageBytes } = context.limits
  const ended: ChunkResult[] = new Array(request.chunks.length)
  let bytes = 0
  for (let results = await run.take(); results.length > 0; results = await run.take()) {
    for (const result of results) {
      const { chunk, outcome } = result
      ended[chunk] = result
      if (outcome.ok) bytes += outcome.payload.length
      const failure = request.onError === OnError.ON_ERROR_FAIL_FAST && run.failureOf(result)
      if (failure) {
        run.end(new Failure('CANCELLED', 'another item of the map has failed'))
        throw failure
      }
    }
    if (bytes <= maxMessageBytes) continue
    const tooLarge = `the results take more than the ${maxMessageBytes} bytes that a message carries; use IMap`
    run.end(new Failure('CANCELLED', tooLarge))
    throw new Failure('RESULT_TOO_LARGE', tooLarge)
  }
  if (request.onError !== OnError.ON_ERROR_SETTLE) {
    for (const result of ended) {
      const failure = run.failureOf(result)
      if (failure) throw failure
    }
  }
  return {
    chunks: ended.map(({ outcome }) => (outcome.ok ? outcome.payload : new Uint8Array())),
    failures: ended.flatMap(({ chunk, outcome }) => failuresOf(chunk, outcome)),
  }
}

/** The failures of a chunk as the public messages have them. */
export function failuresOf(chunk: number, outcome: Outcome): ItemFailure[] {
  if (!outcome.ok) return [{ chunk, item: undefined, status: failureToStatus(outcome.failure) }]
  return outcome.failures.map(({ item, failure }) => ({ chunk, item, status: failureToStatus(failure) }))
}
