import type { CallContext } from '../calls/call-path.js'
import type { CallStream } from '../session/call-stream.js'
import type { SessionTable } from '../session/session-table.js'
import type { RequestDeduplication } from './request-deduplication.js'

/** What the handlers of all RPCs work with. serve.ts makes it once. */
export interface RpcContext extends CallContext {
  readonly sessions: SessionTable<CallStream>
  readonly deduplication: RequestDeduplication
  /** Whether clients may close and terminate the shared pools, unless their rules say otherwise. */
  readonly allowTerminate: boolean
  readonly version: string
}
