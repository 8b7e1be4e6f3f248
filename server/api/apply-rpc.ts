import { createHash } from 'node:crypto'
import type { Pool } from '../../pool/pool.js'
import { DEFAULT_POOL } from '../../pool/pools.js'
import type { Job, Outcome } from '../../pool/scheduler/task.js'
import type { ApplyRequest, ApplyResponse } from '../../proto/gen/farpool/routing/v1/routing.js'
import { Failure } from '../../wire/failure.js'
import { truncateUtf8 } from '../../wire/truncate.js'
import type { Call } from '../grpc/adapter.js'
import type { Begun } from './request-deduplication.js'
import type { RpcContext } from './rpc-context.js'
import { jobOf, single } from './submission.js'

/** Apply: one task, one outcome. */
export async function apply(context: RpcContext, request: ApplyRequest, call: Call): Promise<ApplyResponse> {
  context.admission.enter()
  try {
    const { pool, job } = jobOf(context, single(request), call.client)
    const begin = () => submit(pool, job, request.args)
    const onEnd = (listener: (reason: Failure) => void) => call.onEnd(listener)
    const ended =
      request.requestId === ''
        ? alone(begin, onEnd)
        : context.joins.join(request.requestId, whatOf('Apply', request, request.args), begin, onEnd)
    const outcome = checkSize(await ended, context.limits.maxMessageBytes)
    if (!outcome.ok) throw outcome.failure
    return { result: outcome.payload }
  } finally {
    context.admission.leave()
  }
}

/** In a word: calls of one name have to be the same. */
export function whatOf(
  rpc: string,
  { pool, function: name, kwargs }: Pick<ApplyRequest, 'pool' | 'function' | 'kwargs'>,
  parts: readonly Uint8Array[],
): string {
  const hash = createHash('sha256')
  let bytes = 0
  for (const part of [...parts, kwargs ?? new Uint8Array()]) {
    bytes += part.length
    hash.update(`${part.length}:`).update(part)
  }
  const payloads = `${bytes} bytes (SHA-256 ${hash.digest('hex').slice(0, 32)})`
  return `${rpc} of ${truncateUtf8(name, 100)} in ${truncateUtf8(pool || DEFAULT_POOL, 100)} with ${payloads}`
}

function submit(pool: Pool, job: Job, args: readonly Uint8Array[]): Begun<Outcome> {
  let settle: (outcome: Outcome) => void = () => {}
  const outcome = new Promise<Outcome>((resolve) => {
    settle = resolve
  })
  const task = pool.submit(job, args, undefined, { settled: (_, result) => settle(result) }, 0)
  return { outcome, cancel: (reason) => pool.end(task, reason) }
}

/** A call that ends with its caller. One with a name does not (joins.ts). */
async function alone(
  begin: () => Begun<Outcome>,
  onEnd: (listener: (reason: Failure) => void) => void,
): Promise<Outcome> {
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
