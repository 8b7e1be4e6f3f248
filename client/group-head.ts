import { OnError } from '../proto/gen/farpool/v1/pool_service.js'
import type { GroupHead } from '../wire/call-codec.js'
import { Failure } from '../wire/failure.js'
import { MAX_TIMER_MS } from '../wire/limits.js'
import type { FunctionCall } from './transport.js'

/** Calls back at a deadline, with the failure for it, unless it is stopped before. */
export function atDeadline(deadline: number, late: (reason: Failure) => void): () => void {
  const left = Math.min(MAX_TIMER_MS, Math.max(0, deadline - Date.now()))
  const reason = () => new Failure('TASK_TIMEOUT', "the call's timeout passed before its result came")
  const timer = setTimeout(() => late(reason()), left)
  return () => clearTimeout(timer)
}

/** What a call has in common with others of its kind. */
export const headOf = (call: FunctionCall, args: readonly Uint8Array[]): GroupHead => ({
  pool: call.pool,
  function: call.function,
  args: args as Uint8Array[],
  kwargs: call.kwargs,
  replyKind: call.replyKind,
  retries: call.retries,
  queueTimeoutMs: call.queueTimeoutMs,
  runTimeoutMs: call.runTimeoutMs,
  spread: false,
  onError: OnError.ON_ERROR_UNSPECIFIED,
  timeoutMs: call.deadline === undefined ? 0 : Math.max(1, Math.ceil(call.deadline - Date.now())),
})
