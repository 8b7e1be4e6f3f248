import type { Pools } from '../pool/pools.js'
import type { Admission } from './admission.js'

/** What the handlers work with; made once by serve.ts. */
export interface RpcContext {
  readonly pools: Pools
  readonly admission: Admission
  readonly limits: { readonly maxMessageBytes: number }
  /** Whether a client may end a shared pool. */
  readonly allowTerminate: boolean
  readonly version: string
}
