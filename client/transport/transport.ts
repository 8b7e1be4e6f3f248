import { Failure } from '../../wire/failure.js'
import { bytesOf } from '../../wire/framing/protobuf.js'

/**
 * How the calls of one Pool reach the functions. The seam between the API (Pool, AsyncResult, iterators) and the way to
 * the server; everything that passes it is encoded.
 *
 * Implemented by StreamTransport (many calls in one stream, the default), UnaryTransport (one RPC for each call) and
 * InProcessTransport (the engine in this process: Pool.local). Called by the code of one Pool: calls.ts, map.ts, imap.ts,
 * backing.ts, info.ts and pool-client.ts.
 *
 * What an implementation promises:
 * - T1  Everything that it rejects with, throws, or passes to a Sink is a Failure.
 * - T2  It calls a Sink, or `onOutcome`, never before apply() or chunks() has returned. It may do so while `cancel`
 *       runs: the caller has its Ticket or Pending by then.
 * - T3  A call has one outcome: its Sink gets one `settle` or one `fail`. After that, `cancel` does nothing.
 * - T4  `cancel` makes the call fail with the given reason, soon and also without a connection.
 * - T5  A Failure with `started: false` means that the function certainly has not run. Callers send such calls again,
 *       so a transport that is not sure must leave `started` undefined.
 * - T6  It does not repeat a call of apply(): the caller does that. Within chunks() it may send a chunk again that has
 *       certainly not started.
 * - T7  It does not decode payloads and does not change the FunctionCall.
 * - T8  It calls `onEvent` when the connection comes and when it goes, in turns, and when a worker of the pool that it has
 *       opened exits. Not after close(), and never while another method runs. Its events depend on what it knows: without
 *       a connection, or without a pool of its own, there are none.
 * - T9  A chunk that is too large for a message fails alone: its outcome is PAYLOAD_TOO_LARGE. It has not started, and the
 *       other chunks of its request go on. If the headers or the bound arguments alone are too large, the request fails.
 */
export interface Transport {
  /** Set at most once, before the first call. */
  onEvent?: (event: TransportEvent) => void
  /** Whether there has ever been a connection. Until then CONNECTION_FAILED is final: the address may be wrong. */
  readonly wasConnected: boolean
  /** Starts one call. */
  apply(call: FunctionCall, sink: Sink): Ticket
  /**
   * Starts the chunks of one request. `onOutcome` is called once for each chunk, in the order in which they end;
   * `outcome` resolves after the last, and rejects if the request as a whole fails.
   */
  chunks(call: ChunksCall, onOutcome: (outcome: ChunkOutcome) => void): Pending<void>
  /** Opens a pool that only this client uses. */
  openPool(call: OpenPoolCall): Lease
  /** The owned pool takes no more calls and ends when it has completed those that it has. */
  closePool(pool: string): Promise<void>
  /** Ends the owned pool at once. */
  terminate(pool: string): Promise<void>
  /** @param pool as in FunctionCall. */
  serverInfo(pool: string): Promise<ServerView>
  /** Sorted by name. */
  functions(pool: string): Promise<readonly FunctionInfo[]>
  poolInfo(pool: string): Promise<PoolView>
  /** Ends the connection. No call is under way by then. Requests for information after it reject with POOL_CLOSED. */
  close(): void
}

export type TransportEvent =
  /** A connection to the server has been made, or has ended. */
  | { readonly kind: 'connected' }
  | { readonly kind: 'disconnected'; readonly reason: Failure }
  /** A worker of the pool that was opened has ended. */
  | { readonly kind: 'workerExited'; readonly exit: WorkerExit }

/** How a worker process ended. */
export interface WorkerExit {
  /** The id of the process, on the machine of the pool. */
  readonly pid: number
  /** Its exit code; undefined if a signal ended it. */
  readonly exitCode: number | undefined
  /** The signal that ended it, for example "SIGKILL". */
  readonly signal: string | undefined
}

/** A call of one function, as it is sent. */
export interface FunctionCall {
  /** The name of a shared pool, empty for `default`, or the id of an owned pool. Set once the pool is known. */
  pool: string
  readonly function: string
  readonly args: readonly Uint8Array[]
  readonly kwargs: Uint8Array | undefined
  /** A farpool.v1.PayloadKind. */
  readonly replyKind: number
  readonly retries: number
  /** Unix time in milliseconds; undefined for no limit. */
  readonly deadline: number | undefined
  /** The timeout that the deadline comes from, in milliseconds. */
  readonly timeoutMs: number | undefined
  /** How long the call may wait for a worker; 0 for no limit. */
  readonly queueTimeoutMs: number
  /** How long the function may run; 0 for the limit that its module or the server sets. */
  readonly runTimeoutMs: number
}

/** The chunks of a map or imap that are sent as one request. */
export interface ChunksCall extends FunctionCall {
  readonly chunks: readonly Uint8Array[]
  /** Each item is an array of arguments (starmap). */
  readonly spread: boolean
  /** A chunk stops at its first failed item. */
  readonly failFast: boolean
}

/** The outcome of one chunk: the results of the items that succeeded, and the failures of the others. */
export interface ChunkOutcome {
  /** An index into ChunksCall.chunks. */
  readonly chunk: number
  readonly payload: Uint8Array | undefined
  readonly failures: readonly ChunkFailure[]
}

/** The failure of one item; if `item` is undefined, the whole call or chunk has failed. */
export interface ChunkFailure {
  readonly item: number | undefined
  readonly failure: Failure
}

/** The receiver of one call's outcome. */
export interface Sink {
  /** The server answered: with a payload, or with failures if there is none. */
  settle(payload: Uint8Array | undefined, failures: readonly ChunkFailure[]): void
  /** The call was cancelled, or the server did not answer it. */
  fail(reason: Failure): void
}

/** A call that is under way. */
export interface Ticket {
  cancel(reason: Failure): void
}

/** A request that is under way. `outcome` rejects with a Failure; after `cancel`, with the reason given there. */
export interface Pending<T> extends Ticket {
  readonly outcome: Promise<T>
}

/** The options of an owned pool, as they are sent. */
export interface OpenPoolCall {
  /** The shared pool that it is made from; empty for `default`. */
  readonly sharedPool: string
  readonly processes: number | undefined
  readonly initializer: string
  readonly initargs: readonly Uint8Array[]
  readonly maxtasksperchild: number | undefined
}

/** An owned pool. It lives as long as its lease. */
export interface Lease {
  /** Rejects with the Failure that keeps the pool from opening. */
  readonly opened: Promise<{ readonly pool: string; readonly processes: number }>
  /** Resolves when the pool has ended: with the Failure that ended it, or undefined if it was closed. Never rejects. */
  readonly ended: Promise<Failure | undefined>
  /** Ends the lease, and with it the pool. */
  end(): void
}

/** A function that can be called. */
export interface FunctionInfo {
  name: string
  /** The number of parameters before the first one that has a default. */
  parameters: number
  /** The file name of the function's module. */
  module: string
  /** How often a call is run again if its worker dies, unless the call says otherwise (`configure` of farpool/worker). */
  retries: number
  /** How long the function may run, in milliseconds; 0 for the pool's limit. */
  runTimeoutMs: number
  /** The function's process is not killed when a call is cancelled or times out. */
  neverKilled: boolean
}

/** A server and one of its pools, or this process and its local pool. */
export interface ServerView {
  readonly version: string
  readonly runtime: string
  readonly processes: number
  readonly maxMessageBytes: number
  readonly graceMs: number
  /** The names of the server's shared pools. */
  readonly pools: readonly string[]
}

/** A pool at one moment. */
export interface PoolView {
  readonly pool: string
  readonly shared: boolean
  readonly state: 'open' | 'closing' | 'closed' | 'terminated' | 'failed' | 'broken' | 'unknown'
  readonly failure: Failure | undefined
  readonly processes: number
  readonly workers: readonly {
    readonly pid: number
    readonly state: 'starting' | 'idle' | 'busy' | 'stopping' | 'unknown'
    readonly tasks: number
    readonly function: string
  }[]
  readonly queued: number
  readonly queuedBytes: number
  readonly running: number
  readonly tasks: {
    readonly submitted: number
    readonly succeeded: number
    readonly failed: number
    readonly cancelled: number
    readonly retried: number
    readonly timedOut: number
  }
  readonly workersStarted: number
}

/**
 * Whether a call was refused for its size, so that a smaller chunk may pass (T9). It may also be the size of another call of
 * the same message. With `of`, it is the size of a part that every call of the request has.
 */
export const isTooLarge = ({ reason, started, metadata }: Failure): boolean =>
  reason === 'PAYLOAD_TOO_LARGE' && started === false && metadata['of'] === undefined

/**
 * The failure of a request whose chunks bring along more bound arguments than a message can have; undefined if they fit.
 * @param max in bytes.
 */
export function boundTooLarge(
  { args, kwargs }: { readonly args: readonly Uint8Array[]; readonly kwargs?: Uint8Array | undefined },
  max: number,
): Failure | undefined {
  const bytes = bytesOf(args, kwargs)
  if (bytes <= max) return undefined
  const message = `the bound arguments and kwargs take ${bytes} bytes; the server takes messages of ${max}`
  return new Failure('PAYLOAD_TOO_LARGE', message, { metadata: { of: 'bound arguments', limit: String(max) } })
}

/** The failure of a call whose answer from the server holds neither a payload nor a failure. */
export const NO_OUTCOME = new Failure('INTERNAL', 'the server sent neither a result nor a failure')
