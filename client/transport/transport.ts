import type {
  GetPoolResponse,
  GetServerInfoResponse,
  ListFunctionsResponse,
} from '../../proto/gen/farpool/v1/pool_service.js'
import { Failure } from '../../wire/failure.js'

/** What every request that runs a function has. Payloads are encoded. */
export interface FunctionCall {
  /** Empty for the shared pool; set when the pool is known. */
  pool: string
  readonly function: string
  readonly args: readonly Uint8Array[]
  readonly kwargs: Uint8Array | undefined
  /** A farpool.v1.PayloadKind. */
  readonly replyKind: number
  readonly retries: number
  /** Unix time in milliseconds; undefined for never. */
  readonly deadline: number | undefined
  /** 0 for any time. */
  readonly queueTimeoutMs: number
  readonly runTimeoutMs: number
}

export interface ChunksCall extends FunctionCall {
  readonly chunks: readonly Uint8Array[]
  readonly spread: boolean
  readonly failFast: boolean
}

/** What became of one chunk: its results, and the items that failed; one failure without an item for all of it. */
export interface ChunkOutcome {
  /** An index into ChunksCall.chunks. */
  readonly chunk: number
  readonly payload: Uint8Array | undefined
  readonly failures: readonly ChunkFailure[]
}

/** An item that failed; without one, all of the call or chunk. */
export interface ChunkFailure {
  readonly item: number | undefined
  readonly failure: Failure
}

/** Who waits for a call's outcome: told once, by `settle` or by `fail`. */
export interface Sink {
  /** A payload, or why there is none. */
  settle(payload: Uint8Array | undefined, failures: readonly ChunkFailure[]): void
  fail(reason: Failure): void
}

/** A call under way. `cancel` tells its sink the reason, at once, if it has not been told anything. */
export interface Ticket {
  cancel(reason: Failure): void
}

export const NO_OUTCOME = new Failure('INTERNAL', 'the server sent neither a result nor a failure')

/** A request under way. `outcome` rejects with a Failure, after `cancel` with the one that it was given. */
export interface Pending<T> {
  readonly outcome: Promise<T>
  cancel(reason: Failure): void
}

export interface OpenPoolCall {
  readonly processes: number | undefined
  readonly initializer: string
  readonly initargs: readonly Uint8Array[]
  readonly maxtasksperchild: number | undefined
}

/** A pool of one's own. `opened` rejects, and `ended` resolves, with the Failure that ended it; undefined for none. */
export interface Lease {
  readonly opened: Promise<{ readonly pool: string; readonly processes: number }>
  readonly ended: Promise<Failure | undefined>
  /** Ends the lease, and with it the pool. */
  end(): void
}

/** The way to a server. Everything it rejects with is a Failure. */
export interface Transport {
  /** Whether there has ever been a connection. */
  readonly wasConnected: boolean
  apply(call: FunctionCall, sink: Sink): Ticket
  /** Sends chunks; `onOutcome` is called once for each that has ended, in the order in which they end. */
  chunks(call: ChunksCall, onOutcome: (outcome: ChunkOutcome) => void): Pending<void>
  openPool(call: OpenPoolCall): Lease
  closePool(pool: string): Promise<void>
  joinPool(pool: string): Promise<void>
  terminate(pool: string): Promise<void>
  serverInfo(): Promise<GetServerInfoResponse>
  functions(): Promise<ListFunctionsResponse>
  poolInfo(pool: string): Promise<GetPoolResponse>
  close(): void
}
