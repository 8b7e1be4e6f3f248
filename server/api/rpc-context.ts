import type { Pools } from '../../pool/pools.js'
import type { Admission } from '../limits/admission.js'
import type { Budget } from '../limits/memory-budget.js'
import type { CallStream } from '../session/call-stream.js'
import type { Sessions } from '../session/session-table.js'
import type { Joins } from './request-deduplication.js'

/** What the handlers work with; made once by serve.ts. */
export interface RpcContext {
  readonly pools: Pools
  readonly admission: Admission
  readonly budget: Budget
  readonly sessions: Sessions<CallStream>
  readonly joins: Joins
  readonly limits: { readonly maxMessageBytes: number; readonly maxQueuedPerClient: number }
  /** Whether a client may end a shared pool. */
  readonly allowTerminate: boolean
  readonly version: string
}
