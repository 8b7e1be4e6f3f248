import type { ItemFailure, MapRequest, MapResponse } from '../../proto/gen/farpool/routing/v1/routing.js'
import { OnError } from '../../proto/gen/farpool/v1/pool_service.js'
import { Failure, failureToStatus } from '../../wire/failure.js'
import { MAP_WINDOW_CHUNKS } from '../../wire/limits.js'
import type { Outcome } from '../pool/task.js'
import { whatOf } from './apply.js'
import type { Call } from './call.js'
import { ChunkRun } from './chunks.js'
import type { RpcContext } from './context.js'
import type { Begun } from './joins.js'

/** Map: every chunk is a task; the answer comes when all have ended. */
export async function map(context: RpcContext, request: MapRequest, call: Call): Promise<MapResponse> {
  context.admission.enter()
  try {
    if (request.requestId === '') return await answer(context, request, call)
    const onEnd = (listener: (reason: Failure) => void) => call.onEnd(listener)
    const what = whatOf('Map', request, request.chunks)
    return await context.joins.join(request.requestId, what, () => begin(context, request, call), onEnd)
  } finally {
    context.admission.leave()
  }
}

/** A map that does not end with its caller (joins.ts). */
function begin(context: RpcContext, request: MapRequest, { client, deadline }: Call): Begun<MapResponse> {
  let cancel: (reason: Failure) => void = () => {}
  const call: Call = {
    client,
    deadline,
    // The connection may be gone long before.
    hold: () => {},
    holdUnread: () => {},
    onEnd: (listener) => {
      cancel = listener
    },
  }
  return { outcome: answer(context, request, call), cancel: (reason) => cancel(reason) }
}

async function answer(context: RpcContext, request: MapRequest, call: Call): Promise<MapResponse> {
  const run = new ChunkRun(context, request, MAP_WINDOW_CHUNKS, call, (bytes) => call.hold(bytes))
  const outcomes: Outcome[] = new Array(request.chunks.length)
  let bytes = 0
  for (let results = await run.take(); results.length > 0; results = await run.take()) {
    for (const { chunk, outcome } of results) {
      outcomes[chunk] = outcome
      if (outcome.ok) bytes += outcome.payload.length
      const failure = request.onError === OnError.ON_ERROR_FAIL_FAST && firstFailure(chunk, outcome)
      if (failure) {
        run.end(new Failure('CANCELLED', 'another item of the map has failed'))
        throw failure
      }
    }
  }
  if (bytes > context.limits.maxMessageBytes) {
    const limit = context.limits.maxMessageBytes
    throw new Failure(
      'RESULT_TOO_LARGE',
      `the results take ${bytes} bytes; a message carries at most ${limit}; use IMap`,
    )
  }
  return response(outcomes, request.onError === OnError.ON_ERROR_SETTLE)
}

function response(outcomes: readonly Outcome[], settle: boolean): MapResponse {
  const chunks: Uint8Array[] = []
  const failures: ItemFailure[] = []
  for (const [chunk, outcome] of outcomes.entries()) {
    if (!settle) {
      const failure = firstFailure(chunk, outcome)
      if (failure) throw failure
    }
    chunks.push(outcome.ok ? outcome.payload : new Uint8Array())
    failures.push(...failuresOf(chunk, outcome))
  }
  return { chunks, failures }
}

/** The failures of a chunk as the public messages have them. */
export function failuresOf(chunk: number, outcome: Outcome): ItemFailure[] {
  if (!outcome.ok) return [{ chunk, item: undefined, status: failureToStatus(outcome.failure) }]
  return outcome.failures.map(({ item, failure }) => ({ chunk, item, status: failureToStatus(failure) }))
}

/** The first failure of a chunk, with its place. */
export function firstFailure(chunk: number, outcome: Outcome): Failure | undefined {
  if (!outcome.ok) return outcome.failure.with({ chunk: String(chunk) })
  const first = outcome.failures[0]
  return first?.failure.with({ chunk: String(chunk), item: String(first.item) })
}
