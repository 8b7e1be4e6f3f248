/**
 * Failure, the one error of wire, worker, pool and server, and its two forms on the wire: a google.rpc.Status, and the
 * trailers of a failed call.
 *
 *     google.rpc.Status: code, message, details:
 *         ErrorInfo    reason, domain "farpool", metadata (with `started`)
 *         RetryInfo    when to send the call again
 *         RemoteError  the error that the function threw
 */

// The view that leaves the properties encoded: the server reads failures too.
import { RemoteError } from '../proto/gen/farpool/routing/v1/routing.js'
import { ErrorInfo, RetryInfo } from '../proto/gen/google/rpc/error_details.js'
import { Status } from '../proto/gen/google/rpc/status.js'
import { Code, isReason, REASONS, type Reason, startedByReason } from './reason.js'
import { percentEncodedLength, truncateUtf8 } from './truncate.js'
import { reasonOf } from './values/value-errors.js'

export interface FailureFacts {
  /** Replaces the code of the reason. Only for FUNCTION_ERROR and for statuses of other programs. */
  code?: number
  /** Whether the task has started. Default: as the table of reasons has it. 'unknown' overrides the table. */
  started?: boolean | 'unknown'
  /** Facts for programs, for example exit_code, signal, pid, item. */
  metadata?: Readonly<Record<string, string>>
  /** The error that the function threw. */
  remote?: RemoteError
  /** How long to wait before the call is sent again, in milliseconds. */
  retryDelayMs?: number
  cause?: unknown
}

/**
 * Why a task has no result. The reason is one of the table in reason.ts. A Failure has no stack: it is an answer to a caller
 * and not a bug, and capturing a stack takes longer than everything else that ends a call.
 */
export class Failure extends Error {
  override readonly name = 'Failure'
  readonly code: number
  /** Whether the task has started; undefined if that is not known. */
  readonly started: boolean | undefined
  readonly metadata: Readonly<Record<string, string>>
  /** @internal The error that the function threw, as it travels. */
  readonly remote: RemoteError | undefined
  readonly retryDelayMs: number | undefined

  /** @internal farpool makes them. */
  constructor(
    readonly reason: Reason,
    message: string,
    facts: FailureFacts = {},
  ) {
    const { stackTraceLimit } = Error
    // Reflect.set does not throw if the property is frozen. Failures then have stacks.
    Reflect.set(Error, 'stackTraceLimit', 0)
    super(message, facts.cause === undefined ? undefined : { cause: facts.cause })
    Reflect.set(Error, 'stackTraceLimit', stackTraceLimit)
    this.code = facts.code ?? Code[REASONS[reason].code]
    this.started = facts.started === 'unknown' ? undefined : (facts.started ?? startedByReason(reason))
    this.metadata = facts.metadata ?? {}
    this.remote = facts.remote
    this.retryDelayMs = facts.retryDelayMs
  }

  /**
   * @internal Whether clients send the call again by themselves: gRPC clients by a retry policy, farpool's if a delay is given.
   */
  get invitesResending(): boolean {
    return this.code === Code.UNAVAILABLE || this.retryDelayMs !== undefined
  }

  /** @internal This failure with another `started`. */
  of(started: boolean | 'unknown'): Failure {
    return this.#copy(started, this.metadata)
  }

  /** @internal This failure with more metadata. */
  with(metadata: Record<string, string>): Failure {
    return this.#copy(this.started ?? 'unknown', { ...this.metadata, ...metadata })
  }

  /**
   * @internal The failure of a whole map, of which this is the failure of one chunk. Other chunks may have started, so it does not
   * invite clients to send the whole map again.
   */
  ofOneAmongMany(): Failure {
    const { reason, message, metadata, remote } = this
    const code = this.code === Code.UNAVAILABLE ? Code.ABORTED : this.code
    return new Failure(reason, message, {
      code,
      started: this.started || 'unknown',
      metadata,
      ...(remote && { remote }),
    })
  }

  #copy(started: boolean | 'unknown', metadata: Readonly<Record<string, string>>): Failure {
    const { reason, message, code, remote, retryDelayMs } = this
    return new Failure(reason, message, {
      code,
      started,
      metadata,
      ...(remote && { remote }),
      ...(retryDelayMs === undefined ? {} : { retryDelayMs }),
      cause: this.cause,
    })
  }
}

/** A Failure as it is. Any other thrown value is a bug in farpool, and becomes the cause of an INTERNAL failure. */
export const asFailure = (error: unknown): Failure =>
  error instanceof Failure ? error : new Failure('INTERNAL', reasonOf(error), { cause: error })

const DOMAIN = 'farpool'
const ERROR_INFO = 'type.googleapis.com/google.rpc.ErrorInfo'
const RETRY_INFO = 'type.googleapis.com/google.rpc.RetryInfo'
const REMOTE_ERROR = 'type.googleapis.com/farpool.v1.RemoteError'

const any = (typeUrl: string, value: Uint8Array) => ({ typeUrl, value })

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
 * The failure in a status. A status without an ErrorInfo of farpool, for example of a proxy or of gRPC itself, becomes
 * INTERNAL with the code of the status. Malformed details are ignored, because the rest of the status is still the best
 * answer to the caller.
 */
export function statusToFailure(status: Status): Failure {
  const facts: FailureFacts = { code: status.code }
  let reason: Reason = 'INTERNAL'
  for (const detail of status.details) {
    try {
      reason = readDetail(detail, facts) ?? reason
    } catch {
      // Malformed.
    }
  }
  return new Failure(reason, status.message, facts)
}

/** Adds a detail to the facts. Returns the reason if the detail is an ErrorInfo of farpool. */
function readDetail({ typeUrl, value }: Status['details'][number], facts: FailureFacts): Reason | undefined {
  if (typeUrl === ERROR_INFO) {
    const info = ErrorInfo.decode(value)
    if (info.domain !== DOMAIN || !isReason(info.reason)) return undefined
    const { started, ...metadata } = info.metadata
    facts.metadata = metadata
    // Without `started` the server does not know it, even if the table of reasons has a value.
    facts.started = started === undefined ? 'unknown' : started === 'true'
    return info.reason
  }
  if (typeUrl === RETRY_INFO) {
    const delay = RetryInfo.decode(value).retryDelay
    if (delay) facts.retryDelayMs = delay.seconds * 1000 + delay.nanos / 1e6
  } else if (typeUrl === REMOTE_ERROR) facts.remote = RemoteError.decode(value)
  return undefined
}

/** The content of the trailers of a failed call. */
export interface TrailerStatus {
  /** grpc-status. */
  code: number
  /** grpc-message, before percent-encoding. */
  message: string
  /** grpc-status-details-bin: an encoded google.rpc.Status. */
  details: Uint8Array
}

/**
 * The most bytes of trailers. Trailers of about 64 KiB break connections of grpc-js, and Python and Go refuse more than 8 KiB.
 */
export const TRAILER_BUDGET_BYTES = 6 * 1024

/** Reserved for the names of the headers and for the other trailers, in bytes. */
const OTHER_TRAILERS_BYTES = 256

/** The longest message in trailers, in bytes of UTF-8. */
const TRAILER_MESSAGE_BYTES = 512

/** The longest properties of an error in trailers, in bytes. Longer ones are left out: half an object is none. */
const TRAILER_PROPERTIES_BYTES = 1024

/**
 * A failure that fits into trailers. Of the remote error, stacks are truncated first, then properties, causes and inner errors
 * are left out and messages truncated, and at last all of it is left out. The ErrorInfo is complete, unless its metadata alone
 * is too large.
 */
export function failureToTrailer(failure: Failure): TrailerStatus {
  const { code, reason, remote } = failure
  const message = truncateMessage(failure.message)
  const attempts = remote
    ? [
        remote,
        ...[2048, 1024, 512, 0].map((bytes) => truncateRemote(remote, { ...NESTED, stackBytes: bytes })),
        truncateRemote(remote, { stackBytes: 0, messageBytes: 256, propertiesBytes: 0, depth: 0 }),
      ]
    : []
  for (const kept of [...attempts, undefined]) {
    const status = failureToStatus(failure)
    status.message = message
    status.details = status.details.filter((detail) => detail.typeUrl !== REMOTE_ERROR)
    if (kept) status.details.push(any(REMOTE_ERROR, RemoteError.encode(kept).finish()))
    const details = Status.encode(status).finish()
    if (fitsIntoTrailers(message, details)) return { code, message, details }
  }
  const bare = new Failure(reason, message, { code })
  return { code, message, details: Status.encode(failureToStatus(bare)).finish() }
}

/** Binary trailers are base64: four bytes for each three. */
const fitsIntoTrailers = (message: string, details: Uint8Array): boolean =>
  percentEncodedLength(message) + Math.ceil(details.length / 3) * 4 + OTHER_TRAILERS_BYTES <= TRAILER_BUDGET_BYTES

function truncateMessage(message: string): string {
  let truncated = truncateUtf8(message, TRAILER_MESSAGE_BYTES)
  while (percentEncodedLength(truncated) > 2 * TRAILER_MESSAGE_BYTES) {
    truncated = truncateUtf8(truncated, Math.floor(truncated.length / 2))
  }
  return truncated
}

/** The limits of an error in trailers. Those of its causes and inner errors are half of it. */
interface RemoteLimits {
  readonly stackBytes: number
  readonly messageBytes: number
  readonly propertiesBytes: number
  /** How many levels of causes and inner errors are kept. */
  readonly depth: number
}

const NESTED = { messageBytes: 512, propertiesBytes: TRAILER_PROPERTIES_BYTES, depth: 4 }

function truncateRemote(error: RemoteError, limits: RemoteLimits): RemoteError {
  const { stackBytes, messageBytes, propertiesBytes, depth } = limits
  const { type, message, stack, cause, code, properties, errors, stackWithheld } = error
  const nested = (inner: RemoteError) =>
    truncateRemote(inner, {
      stackBytes: stackBytes >> 1,
      messageBytes: messageBytes >> 1,
      propertiesBytes: propertiesBytes >> 1,
      depth: depth - 1,
    })
  return {
    type: truncateUtf8(type, 128),
    message: truncateUtf8(message, messageBytes),
    stack: stackBytes === 0 ? '' : truncateUtf8(stack, stackBytes),
    cause: cause && depth > 0 ? nested(cause) : undefined,
    code,
    properties: properties && properties.length <= propertiesBytes ? properties : undefined,
    errors: depth > 0 ? errors.slice(0, depth).map(nested) : [],
    stackWithheld,
  }
}
