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
    const { pool, job } = jobOf(context, single(request), call.client)
    const begin = () => submit(pool, job, request.args)
    const onEnd = (listener: (reason: Failure) => void) => call.onEnd(listener)
    const ended = request.requestId === '' ? alone(begin, onEnd) : context.joins.join(request.requestId, begin, onEnd)
    const outcome = checkSize(await ended, context.limits.maxMessageBytes)
    if (!outcome.ok) throw outcome.failure
    return { result: outcome.payload }
  } finally {
    context.admission.leave()
  }
}

/** A task under way. */
interface Begun {
  readonly outcome: Promise<Outcome>
  readonly cancel: (reason: Failure) => void
}

function submit(pool: Pool, job: Job, args: readonly Uint8Array[]): Begun {
  let settle: (outcome: Outcome) => void = () => {}
  const outcome = new Promise<Outcome>((resolve) => {
    settle = resolve
  })
  const task = pool.submit(job, args, undefined, { settled: (_, result) => settle(result) }, 0)
  return { outcome, cancel: (reason) => pool.end(task, reason) }
}

/** A call that ends with its caller. One with a name does not (joins.ts). */
async function alone(begin: () => Begun, onEnd: (listener: (reason: Failure) => void) => void): Promise<Outcome> {
  const { outcome, cancel } = begin()
  onEnd(cancel)
  return outcome
}

/** A result that no message can carry is a failure of its task, not of the stream that would have carried it. */
export function checkSize(outcome: Outcome, maxMessageBytes: number): Outcome {
  if (!outcome.ok || outcome.payload.length <= maxMessageBytes) return outcome
  const message = `the result takes ${outcome.payload.length} bytes; a message carries at most ${maxMessageBytes}`
  return { ok: false, failure: new Failure('RESULT_TOO_LARGE', message) }
}
