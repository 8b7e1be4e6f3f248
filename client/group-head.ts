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

/** Whether calls of these groups can share one. Bound values are compared by identity. */
export const isSame = (a: GroupHead, b: GroupHead): boolean =>
  a === b ||
  (a.function === b.function &&
    a.pool === b.pool &&
    a.args.length === 0 &&
    b.args.length === 0 &&
    a.kwargs === b.kwargs &&
    a.replyKind === b.replyKind &&
    a.retries === b.retries &&
    a.queueTimeoutMs === b.queueTimeoutMs &&
    a.runTimeoutMs === b.runTimeoutMs &&
    a.spread === b.spread &&
    a.onError === b.onError &&
    a.timeoutMs === b.timeoutMs)
