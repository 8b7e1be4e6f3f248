import type { Pool } from '../../pool/pool.js'
import type { Client, Job } from '../../pool/scheduler/task.js'
import { OnError } from '../../proto/gen/farpool/v1/pool_service.js'
import { Failure } from '../../wire/failure.js'
import type { RpcContext } from './rpc-context.js'

/** What every request that runs a function says about it. */
export interface JobRequest {
  readonly pool: string
  readonly function: string
  readonly kwargs?: Uint8Array | undefined
  readonly replyKind: number
  readonly retries: number
  readonly queueTimeoutMs: number
  readonly runTimeoutMs: number
}

/** And what one says that brings chunks, or many calls. */
export interface ManyRequest extends JobRequest {
  readonly args: readonly Uint8Array[]
  readonly spread: boolean
  readonly onError: number
}

/** A request that brings one call: its arguments are the task's own. */
export const single = (request: JobRequest): ManyRequest => ({
  ...request,
  args: [],
  spread: false,
  onError: OnError.ON_ERROR_UNSPECIFIED,
})

/**
 * What the tasks of a request have in common: what the request says, else what the function's module says, else what
 * the server says. Throws the Failure that says what is wrong with it.
 */
export function jobOf(
  { pools }: RpcContext,
  request: ManyRequest,
  client: Client,
): { readonly pool: Pool; readonly job: Job } {
  pools.company.came(client)
  const pool = pools.get(request.pool)
  const info = pools.functions.get(request.function)
  const { function: name, args, kwargs, spread, replyKind, retries, onError, queueTimeoutMs } = request
  if (retries < 0) throw new Failure('BAD_REQUEST', `retries is ${retries}; it must be 0 or more`)
  if (OnError[onError] === undefined) {
    throw new Failure('BAD_REQUEST', `on_error is ${onError}; it must be 0 to 2, see farpool.v1.OnError`)
  }
  const job: Job = {
    function: name,
    args,
    kwargs,
    spread,
    replyKind,
    retries: retries || info.retries,
    failFast: onError === OnError.ON_ERROR_FAIL_FAST,
    queueTimeoutMs,
    runTimeoutMs: request.runTimeoutMs || info.runTimeoutMs || pool.options.runTimeoutMs,
    neverKilled: info.neverKilled,
    client,
  }
  return { pool, job }
}
