import { RemoteError } from '../proto/gen/farpool/v1/failure.js'
import { ErrorInfo, RetryInfo } from '../proto/gen/google/rpc/error_details.js'
import { Status } from '../proto/gen/google/rpc/status.js'
import { Code, isReason, REASONS, type Reason, startedByReason } from './reason.js'
import { percentEncodedLength, truncateUtf8 } from './truncate.js'
import { reasonOf } from './values/value-errors.js'

/** Trailers near 64 KiB break grpc-js connections, and Python and Go refuse blocks above 8 KiB; ours stay below this. */
export const TRAILER_BUDGET_BYTES = 6 * 1024

export const DOMAIN = 'farpool'
const ERROR_INFO = 'type.googleapis.com/google.rpc.ErrorInfo'
const RETRY_INFO = 'type.googleapis.com/google.rpc.RetryInfo'
const REMOTE_ERROR = 'type.googleapis.com/farpool.v1.RemoteError'

export interface FailureFacts {
  /** Replaces the reason's own code; only for FUNCTION_ERROR. */
  code?: number
  /** Whether the task had begun to run; by default what the reason tells, 'unknown' where that is not so here. */
  started?: boolean | 'unknown'
  /** Facts for programs, for example exit_code, signal, pid, item. */
  metadata?: Readonly<Record<string, string>>
  /** What the function threw. */
  remote?: RemoteError
  /** When to try again, in milliseconds. */
  retryDelayMs?: number
  cause?: unknown
}

/**
 * Why a task has no result, with a word from the table of reasons. The one error of wire, worker and server. It has no stack: it is an
 * answer, not a fault, and to look for one takes longer than all else that ends a call.
 */
export class Failure extends Error {
  override readonly name = 'Failure'
  readonly code: number
  readonly started: boolean | undefined
  readonly metadata: Readonly<Record<string, string>>
  readonly remote: RemoteError | undefined
  readonly retryDelayMs: number | undefined

  constructor(
    readonly reason: Reason,
    message: string,
    facts: FailureFacts = {},
  ) {
    const { stackTraceLimit } = Error
    // Where it is frozen there are stacks.
    Reflect.set(Error, 'stackTraceLimit', 0)
    super(message, facts.cause === undefined ? undefined : { cause: facts.cause })
    Reflect.set(Error, 'stackTraceLimit', stackTraceLimit)
    this.code = facts.code ?? Code[REASONS[reason].code]
    this.started = facts.started === 'unknown' ? undefined : (facts.started ?? startedByReason(reason))
    this.metadata = facts.metadata ?? {}
    this.remote = facts.remote
    this.retryDelayMs = facts.retryDelayMs
  }

  /** The same failure, of which something else is known about the start. */
  of(started: boolean | 'unknown'): Failure {
    return this.#copy(started, this.metadata)
  }

  /** Whether clients send again what ends with it: gRPC's by a retry policy, ours where it says when. */
  get invitesResending(): boolean {
    return this.code === Code.UNAVAILABLE || this.retryDelayMs !== undefined
  }

  /** The same failure as that of all of which this was one: others may have begun, so nobody is to send all of them again. */
  ofOneAmongMany(): Failure {
    const { reason, message, metadata, remote } = this
    const started = this.started || 'unknown'
    return new Failure(reason, message, { code: this.#codeOfBegun, started, metadata, ...(remote && { remote }) })
  }

  get #codeOfBegun(): number {
    return this.code === Code.UNAVAILABLE ? Code.ABORTED : this.code
  }

  /** The same failure with more facts in its metadata. */
  with(metadata: Record<string, string>): Failure {
    return this.#copy(this.started ?? 'unknown', { ...this.metadata, ...metadata })
  }

  #copy(started: boolean | 'unknown', metadata: Readonly<Record<string, string>>): Failure {
    const { reason, message, code, remote, retryDelayMs } = this
    return new Failure(reason, message, {
      code,
      started,
      metadata,
      ...(remote && { remote }),
      ...(retryDelayMs === undefined ? {} : { retryDelayMs }),
    })
  }
}

/** Whatever was thrown, as a Failure; what is none is a fault of farpool itself. */
export const asFailure = (error: unknown): Failure =>
  error instanceof Failure ? error : new Failure('INTERNAL', reasonOf(error), { cause: error })

export function failureToStatus(failure: Failure): Status {
  const metadata: Record<string, string> = { ...failure.metadata }
  if (failure.started !== undefined) metadata['started'] = String(failure.started)
  const details = [any(ERROR_INFO, ErrorInfo.encode({ reason: failure.reason, domain: DOMAIN, metadata }).finish())]
  if (failure.retryDelayMs !== undefined) {
    const seconds = Math.floor(failure.retryDelayMs / 1000)
    const retryDelay = { seconds, nanos: (failure.retryDelayMs - seconds * 1000) * 1e6 }
    details.push(any(RETRY_INFO, RetryInfo.encode({ retryDelay }).finish()))
  }
  if (failure.remote) details.push(any(REMOTE_ERROR, RemoteError.encode(failure.remote).finish()))
  return { code: failure.code, message: failure.message, details }
}

/**
 * Reads a status of ours; one that another peer made (a proxy, grpc itself) becomes INTERNAL with its own code. Details
 * that cannot be read are passed over: whoever reads a failure has nobody to tell of another.
 */
export function statusToFailure(status: Status): Failure {
  const facts: FailureFacts = { code: status.code }
  let reason: Reason = 'INTERNAL'
  for (const detail of status.details) {
    try {
      reason = readDetail(detail, facts) ?? reason
    } catch {
      // It is none of ours.
    }
  }
  return new Failure(reason, status.message, facts)
}

/** Adds to the facts; the reason, where the detail tells it. */
function readDetail({ typeUrl, value }: Status['details'][number], facts: FailureFacts): Reason | undefined {
  if (typeUrl === ERROR_INFO) {
    const info = ErrorInfo.decode(value)
    if (info.domain !== DOMAIN || !isReason(info.reason)) return undefined
    const { started, ...metadata } = info.metadata
    facts.metadata = metadata
    // Where nothing is said the server does not know, whatever the reason says as a rule.
    facts.started = started === undefined ? 'unknown' : started === 'true'
    return info.reason
  }
  if (typeUrl === RETRY_INFO) {
    const delay = RetryInfo.decode(value).retryDelay
    if (delay) facts.retryDelayMs = delay.seconds * 1000 + delay.nanos / 1e6
  } else if (typeUrl === REMOTE_ERROR) facts.remote = RemoteError.decode(value)
  return undefined
}

/** What a failed call's trailers hold: the status message, and the bytes of grpc-status-details-bin. */
export interface TrailerStatus {
  code: number
  message: string
  details: Uint8Array
}

/**
 * A failure small enough for the trailers of a call. What is cut first: the stacks, then the causes, then the
 * messages; the ErrorInfo stays whole.
 */
export function failureToTrailer(failure: Failure): TrailerStatus {
  const remote = failure.remote
  const message = cutMessage(failure.message, 512)
  const withRemote = (kept: RemoteError | undefined) => {
    const status = failureToStatus(failure)
    status.message = message
    status.details = status.details.filter((detail) => detail.typeUrl !== REMOTE_ERROR)
    if (kept) status.details.push(any(REMOTE_ERROR, RemoteError.encode(kept).finish()))
    return Status.encode(status).finish()
  }
  const tries = remote
    ? [remote, ...[2048, 1024, 512, 0].map((bytes) => cutRemote(remote, bytes, 512, 4)), cutRemote(remote, 0, 256, 0)]
    : []
  for (const kept of [...tries, undefined]) {
    const details = withRemote(kept)
    if (fits(message, details)) return { code: failure.code, message, details }
  }
  const bare = new Failure(failure.reason, message, { code: failure.code })
  return { code: failure.code, message, details: Status.encode(failureToStatus(bare)).finish() }
}

const any = (typeUrl: string, value: Uint8Array) => ({ typeUrl, value })

// Room for the names of the headers and the other trailers: 256 bytes.
const fits = (message: string, details: Uint8Array): boolean =>
  percentEncodedLength(message) + Math.ceil(details.length / 3) * 4 + 256 <= TRAILER_BUDGET_BYTES

function cutMessage(message: string, bytes: number): string {
  let cut = truncateUtf8(message, bytes)
  while (percentEncodedLength(cut) > 2 * bytes) cut = truncateUtf8(cut, Math.floor(cut.length / 2))
  return cut
}

function cutRemote(error: RemoteError, stackBytes: number, messageBytes: number, causes: number): RemoteError {
  return {
    type: truncateUtf8(error.type, 128),
    message: truncateUtf8(error.message, messageBytes),
    stack: stackBytes === 0 ? '' : truncateUtf8(error.stack, stackBytes),
    cause:
      error.cause && causes > 0 ? cutRemote(error.cause, stackBytes >> 1, messageBytes >> 1, causes - 1) : undefined,
  }
}
