import { OnError } from '../proto/gen/farpool/v1/pool_service.js'
import type { GroupHead } from '../wire/call-codec.js'
import type { FunctionCall } from './transport.js'

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
