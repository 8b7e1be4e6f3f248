import type { ApplyRequest, ApplyResponse } from '../../proto/gen/farpool/routing/v1/routing.js'
import { Failure } from '../../wire/failure.js'
import type { Pool } from '../pool/pool.js'
import type { Job, Outcome } from '../pool/task.js'
import type { Call } from './call.js'
import type { RpcContext } from './context.js'

/** Apply: one task, one outcome. */
export async function apply(context: RpcContext, request: ApplyRequest, call: Call): Promise<ApplyResponse> {
  context.admission.enter()
  try {
    const pool = context.pools.get(request.pool)
    context.pools.functions.check(request.function)
    checkRetries(request.retries)
    const { args, kwargs, replyKind, retries } = request
    const job: Job = {
      function: request.function,
      args: [],
      kwargs,
      spread: false,
      replyKind,
      retries,
      failFast: false,
      client: call.peer,
    }
    const outcome = checkSize(await run(pool, job, args, call), context.limits.maxMessageBytes)
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

/** Throws BAD_REQUEST for a number of retries that makes no sense. */
export function checkRetries(retries: number): void {
  if (retries < 0) throw new Failure('BAD_REQUEST', `retries is ${retries}; it must be 0 or more`)
}

/** A result that no message can carry is a failure of its task, not of the stream that would have carried it. */
export function checkSize(outcome: Outcome, maxMessageBytes: number): Outcome {
  if (!outcome.ok || outcome.payload.length <= maxMessageBytes) return outcome
  const message = `the result takes ${outcome.payload.length} bytes; a message carries at most ${maxMessageBytes}`
  return { ok: false, failure: new Failure('RESULT_TOO_LARGE', message) }
}
