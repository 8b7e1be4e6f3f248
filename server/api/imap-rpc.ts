import type { ChunkOutcome, IMapResponse, MapRequest } from '../../proto/gen/farpool/routing/v1/routing.js'
import { OnError } from '../../proto/gen/farpool/v1/pool_service.js'
import { imapWindow, ReorderBuffer } from '../../wire/chunks.js'
import { FRAME_TARGET_BYTES } from '../../wire/protocol.js'
import { itemFailures } from '../calls/call-path.js'
import { RequestRun, type RunResult } from '../calls/request-run.js'
import type { Call } from '../grpc/adapter.js'
import { failFast } from './map-rpc.js'
import type { RpcContext } from './rpc-context.js'

/** IMap: every chunk is a task; outcomes are sent as they come, or in the order of the chunks if the request says so. */
export async function* imap(context: RpcContext, request: MapRequest, call: Call): AsyncGenerator<IMapResponse> {
  context.admission.enter()
  try {
    const run = new RequestRun(
      context,
      request,
      request.chunks.map((chunk) => ({ chunk })),
      {
        window: imapWindow(context.engine.pool(request.pool, call.caller.principal).options.processes),
        client: call.caller,
        hold: (bytes) => call.holdUnread(bytes),
      },
    )
    call.onEnd((reason) => run.end(reason))
    const order = new ReorderBuffer<RunResult>()
    for (let results = await run.take(); results.length > 0; results = await run.take()) {
      const ready = request.ordered ? results.flatMap((result) => order.push(result.index, result)) : results
      for (const outcomes of inMessages(ready.map(toReply))) {
        // From here on, the adapter counts them as written and not sent.
        for (const { payload } of outcomes) call.holdUnread(-(payload?.length ?? 0))
        yield { outcomes }
      }
      if (request.onError === OnError.ON_ERROR_FAIL_FAST) for (const result of results) failFast(run, result)
    }
  } finally {
    context.admission.leave()
  }
}

const toReply = ({ index, outcome }: RunResult): ChunkOutcome => ({
  chunk: index,
  payload: outcome.ok ? outcome.payload : undefined,
  failures: itemFailures(index, outcome),
})

/** Groups outcomes into messages of a bounded size: grpc-js counts messages, not bytes, for backpressure. */
function* inMessages(outcomes: readonly ChunkOutcome[]): Generator<ChunkOutcome[]> {
  let message: ChunkOutcome[] = []
  let bytes = 0
  for (const outcome of outcomes) {
    message.push(outcome)
    // A failure is small, and bounded where it was made.
    bytes += (outcome.payload?.length ?? 0) + 1024 * outcome.failures.length
    if (bytes < FRAME_TARGET_BYTES) continue
    yield message
    message = []
    bytes = 0
  }
  if (message.length > 0) yield message
}
