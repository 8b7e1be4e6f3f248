import type { Outcome } from '../../pool/scheduler/task.js'
import type { ApplyRequest, ApplyResponse } from '../../proto/gen/farpool/routing/v1/routing.js'
import { OnError } from '../../proto/gen/farpool/v1/pool_service.js'
import { Failure } from '../../wire/failure.js'
import { RequestRun } from '../calls/request-run.js'
import type { Call } from '../grpc/adapter.js'
import { fingerprint, type StartedCall } from './request-deduplication.js'
import type { RpcContext } from './rpc-context.js'

/** Apply: one task, one outcome. A call with a `request_id` goes on if its caller goes (request-deduplication.ts). */
export async function apply(context: RpcContext, request: ApplyRequest, call: Call): Promise<ApplyResponse> {
  const { admission, deduplication } = context
  admission.enter()
  try {
    const start = () => startApply(context, request, call)
    const outcome =
      request.requestId === ''
        ? await untilCallEnds(start(), call)
        : await deduplication.join(request.requestId, fingerprint('Apply', request, request.args), start, call)
    if (!outcome.ok) throw outcome.failure
    return { result: outcome.payload }
  } finally {
    admission.leave()
  }
}

function startApply(context: RpcContext, request: ApplyRequest, { caller }: Call): StartedCall<Outcome> {
  // The arguments are the task's own, not the job's.
  const job = { ...request, args: [], spread: false, onError: OnError.ON_ERROR_UNSPECIFIED, allowPartial: false }
  const options = { window: 1, client: caller, hold: () => {} }
  const run = new RequestRun(context, job, [{ args: request.args }], options)
  return { outcome: onlyOutcome(run), cancel: (reason) => run.abort(reason) }
}

async function onlyOutcome(run: RequestRun): Promise<Outcome> {
  const [result] = await run.take()
  if (!result) throw new Failure('INTERNAL', 'the task ended without an outcome')
  return result.outcome
}

function untilCallEnds({ outcome, cancel }: StartedCall<Outcome>, call: Call): Promise<Outcome> {
  call.onEnd(cancel)
  return outcome
}
