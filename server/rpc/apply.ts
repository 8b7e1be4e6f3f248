import type { ApplyRequest, ApplyResponse } from '../../proto/gen/farpool/routing/v1/routing.js'
import { Failure } from '../../wire/failure.js'
import type { Pool } from '../pool/pool.js'
import type { Job, Outcome } from '../pool/task.js'
import type { Call } from './call.js'
import type { RpcContext } from './context.js'
import { jobOf, single } from './job.js'

/** Apply: one task, one outcome. */
export async function apply(context: RpcContext, request: ApplyRequest, call: Call): Promise<ApplyResponse> {
  context.admission.enter()
  try {
    const { pool, job } = jobOf(context, single(request), call.peer)
    const outcome = checkSize(
      await (request.requestId === '' ? run(pool, job, request.args, call) : joined(context, pool, job, request, call)),
      context.limits.maxMessageBytes,
    )
    if (!outcome.ok) throw outcome.failure
    return { result: outcome.payload }
  } finally {
    context.admission.leave()
  }
}

const run = (pool: Pool, job: Job, args: readonly Uint8Array[], call: Call): Promise<Outcome> =>
  new Promise((resolve) => {
    const task = pool.submit(job, args, undefined, { settled: (_, outcome) => resolve(outcome) }, 0)
    call.onEnd((reason) => pool.end(task, reason))
  })

/** A call that its client may send again: of the same client, or of another connection, it is the same call. */
const joined = (context: RpcContext, pool: Pool, job: Job, request: ApplyRequest, call: Call): Promise<Outcome> =>
  context.joins.join(
    request.requestId,
    () => {
      let settle: (outcome: Outcome) => void = () => {}
      const outcome = new Promise<Outcome>((resolve) => {
        settle = resolve
      })
      const task = pool.submit(job, request.args, undefined, { settled: (_, result) => settle(result) }, 0)
      return { outcome, cancel: (reason) => pool.end(task, reason) }
    },
    (listener) => call.onEnd(listener),
  )

/** A result that no message can carry is a failure of its task, not of the stream that would have carried it. */
export function checkSize(outcome: Outcome, maxMessageBytes: number): Outcome {
  if (!outcome.ok || outcome.payload.length <= maxMessageBytes) return outcome
  const message = `the result takes ${outcome.payload.length} bytes; a message carries at most ${maxMessageBytes}`
  return { ok: false, failure: new Failure('RESULT_TOO_LARGE', message) }
}
