import type { MapRequest, MapResponse } from '../../proto/gen/farpool/routing/v1/routing.js'
import { OnError } from '../../proto/gen/farpool/v1/pool_service.js'
import { Failure } from '../../wire/failure.js'
import { itemFailures } from '../calls/call-path.js'
import { RequestRun, type RunResult } from '../calls/request-run.js'
import type { Call } from '../grpc/adapter.js'
import { cutOff } from '../limits/memory-budget.js'
import { fingerprint, type StartedCall } from './request-deduplication.js'
import type { RpcContext } from './rpc-context.js'

/** Chunks of one Map that are in the queue or running at once: enough to keep any pool busy. */
const WINDOW_CHUNKS = 4_096

/** Map: every chunk is a task; the answer comes when all have ended. */
export async function map(context: RpcContext, request: MapRequest, call: Call): Promise<MapResponse> {
  const { admission, deduplication } = context
  admission.enter()
  try {
    if (request.requestId !== '') {
      const parts = [...request.chunks, ...request.args, Buffer.of(Number(request.spread), request.onError)]
      const start = () => startNamed(context, request, call)
      return await deduplication.join(request.requestId, fingerprint('Map', request, parts), start, call)
    }
    const run = startRun(context, request, call, (bytes) => call.hold(bytes))
    call.onEnd((reason) => run.end(reason))
    return await collect(context, request, run)
  } finally {
    admission.leave()
  }
}

/** A Map that outlives its caller. The caller's connection may be gone long before it, so it has an account of its own. */
function startNamed(context: RpcContext, request: MapRequest, call: Call): StartedCall<MapResponse> {
  const account = context.budget.open(`request ${request.requestId}`, () => run.end(cutOff()))
  const closeAccount = () => account.close()
  let run: RequestRun
  try {
    run = startRun(context, request, call, (bytes) => account.add(bytes))
  } catch (error) {
    closeAccount()
    throw error
  }
  return { outcome: collect(context, request, run).finally(closeAccount), cancel: (reason) => run.end(reason) }
}

function startRun(
  context: RpcContext,
  request: MapRequest,
  { caller: client }: Call,
  hold: (bytes: number) => void,
): RequestRun {
  const tasks = request.chunks.map((chunk) => ({ chunk }))
  return new RequestRun(context, request, tasks, { window: WINDOW_CHUNKS, client, hold })
}

/** Waits for all chunks. @throws Failure the first failure, unless the request wants them all; RESULT_TOO_LARGE. */
async function collect(
  { maxMessageBytes }: RpcContext,
  { chunks, onError }: MapRequest,
  run: RequestRun,
): Promise<MapResponse> {
  const ended: RunResult[] = new Array(chunks.length)
  let bytes = 0
  for (let results = await run.take(); results.length > 0; results = await run.take()) {
    for (const result of results) {
      ended[result.index] = result
      if (result.outcome.ok) bytes += result.outcome.payload.length
      if (onError === OnError.ON_ERROR_FAIL_FAST) failFast(run, result)
    }
    if (bytes <= maxMessageBytes) continue
    const tooLarge = `the results take more than the ${maxMessageBytes} bytes that a message carries; use IMap`
    run.end(new Failure('CANCELLED', tooLarge))
    throw new Failure('RESULT_TOO_LARGE', tooLarge)
  }
  if (onError !== OnError.ON_ERROR_SETTLE) {
    for (const result of ended) {
      const failure = run.failureOf(result)
      if (failure) throw failure
    }
  }
  return {
    chunks: ended.map(({ outcome }) => (outcome.ok ? outcome.payload : new Uint8Array())),
    failures: ended.flatMap(({ index, outcome }) => itemFailures(index, outcome)),
  }
}

/** If the result has a failure, drops what is not done and throws it. */
export function failFast(run: RequestRun, result: RunResult): void {
  const failure = run.failureOf(result)
  // An item that was not run can be sent again.
  if (!failure || failure.reason === 'CHUNK_FULL') return
  run.end(new Failure('CANCELLED', 'another item of the map has failed'))
  throw failure
}
