import type { RemoteError as RemoteErrorMessage } from '../proto/gen/farpool/routing/v1/routing.js'
import { Failure } from '../wire/failure.js'
import { type CodeName, codeName, type Reason } from '../wire/reason.js'
import { decodePayload } from '../wire/values/payload.js'

/** The facts of an error, besides its message. */
export interface ErrorFacts {
  readonly code: CodeName
  readonly reason: Reason
  readonly started?: boolean | undefined
  readonly metadata?: Readonly<Record<string, string>>
  readonly index?: number | undefined
  readonly cause?: unknown
}

/** Every error of this client. The subclass says how to react to it; `reason` says exactly what happened. */
export class FarpoolError extends Error {
  override readonly name: string = 'FarpoolError'
  /** The gRPC status code by name, for example "NOT_FOUND". */
  readonly code: CodeName
  /** One of the reasons in docs/reference/errors.md, for example "WORKER_CRASHED". */
  readonly reason: Reason
  /**
   * False: the function certainly has not run, so the call can be made again. True: it has started. Undefined: that is
   * not known.
   */
  readonly started: boolean | undefined
  /** More facts that belong to the reason, as the server sent them. */
  readonly metadata: Readonly<Record<string, string>>
  /** The index of the item that failed, in the input of a map or imap; otherwise undefined. */
  readonly index: number | undefined

  constructor(message: string, facts: ErrorFacts) {
    super(message, facts.cause === undefined ? undefined : { cause: facts.cause })
    this.code = facts.code
    this.reason = facts.reason
    this.started = facts.started
    this.metadata = facts.metadata ?? {}
    this.index = facts.index
  }
}

/** An argument or an option is invalid, or a method was called too early. */
export class BadRequestError extends FarpoolError {
  override readonly name: string = 'BadRequestError'
}
/** No function of this name is registered on the server. The message names similar ones. */
export class UnknownFunctionError extends FarpoolError {
  override readonly name: string = 'UnknownFunctionError'
}
/** An argument or a result has a value that cannot be encoded, or its bytes cannot be decoded. */
export class EncodingError extends FarpoolError {
  override readonly name: string = 'EncodingError'
}
/**
 * The timeout of get() or next() passed and the call continues, or a limit of the call itself passed. In that case `metadata`
 * says how many milliseconds the call was allowed to take (`limit_ms`) and what it was doing (`phase`: queued or running).
 * Without `phase`, the server had the call but did not answer within 250 ms after the call's timeout: only it knows the phase.
 */
export class TimeoutError extends FarpoolError {
  override readonly name: string = 'TimeoutError'
}
/** The pool takes no more calls. */
export class PoolClosedError extends FarpoolError {
  override readonly name: string = 'PoolClosedError'
}
/** The pool was terminated while the call was under way. */
export class PoolTerminatedError extends FarpoolError {
  override readonly name: string = 'PoolTerminatedError'
}
/** The caller cancelled the call. */
export class CancelledError extends FarpoolError {
  override readonly name: string = 'CancelledError'
}
/** The pool's workers cannot start: the initializer failed, or a module cannot be loaded. */
export class InitializerError extends FarpoolError {
  override readonly name: string = 'InitializerError'
}
/** There is no connection to a server, the connection was lost, or the server takes no calls now. */
export class UnavailableError extends FarpoolError {
  override readonly name: string = 'UnavailableError'
}
/** A limit of the server is reached, for example the length of its queue or the size of a message. */
export class LimitError extends FarpoolError {
  override readonly name: string = 'LimitError'
}
/** The server does not know the client's token (`reason` UNAUTHENTICATED), or does not permit this to the client. */
export class PermissionError extends FarpoolError {
  override readonly name: string = 'PermissionError'
}

/**
 * The function threw. `cause` is the error that it threw, as an Error of this process: with its name, message, `code`, own
 * properties, causes and inner errors, and with its stack if the server sends stacks (docs/reference/errors.md).
 */
export class RemoteError extends FarpoolError {
  override readonly name: string = 'RemoteError'
  /** The class of the thrown error, for example "TypeError"; for a value that is no error its type, for example "string". */
  readonly type: string

  constructor(message: string, facts: ErrorFacts, type: string) {
    super(message, facts)
    this.type = type
  }
}

/**
 * The worker process died while it ran the call. The server has replaced it. `cause` is the error that nothing in the worker
 * caught, if that was the reason.
 */
export class WorkerCrashedError extends FarpoolError {
  override readonly name: string = 'WorkerCrashedError'
  /** The exit code of the process; undefined if a signal ended it. */
  readonly exitCode: number | undefined
  /** The signal that ended the process, for example "SIGKILL". */
  readonly signal: string | undefined
  /** The id of the process, on the server's machine. */
  readonly pid: number | undefined

  constructor(message: string, facts: ErrorFacts) {
    super(message, facts)
    const { exit_code: exitCode, signal, pid } = this.metadata
    this.exitCode = exitCode === undefined ? undefined : Number(exitCode)
    this.signal = signal
    this.pid = pid === undefined ? undefined : Number(pid)
  }
}

const CLASSES: Readonly<Partial<Record<Reason, new (message: string, facts: ErrorFacts) => FarpoolError>>> = {
  BAD_REQUEST: BadRequestError,
  PAYLOAD_DECODE_FAILED: EncodingError,
  RESULT_ENCODE_FAILED: EncodingError,
  ARGUMENT_ENCODE_FAILED: EncodingError,
  FUNCTION_NOT_FOUND: UnknownFunctionError,
  WORKER_CRASHED: WorkerCrashedError,
  WORKER_OOM: WorkerCrashedError,
  SERVER_DRAINING: UnavailableError,
  NO_WORKERS: UnavailableError,
  CONNECTION_FAILED: UnavailableError,
  CONNECTION_LOST: UnavailableError,
  SESSION_LOST: UnavailableError,
  QUEUE_FULL: LimitError,
  PAYLOAD_TOO_LARGE: LimitError,
  RESULT_TOO_LARGE: LimitError,
  CHUNK_FULL: LimitError,
  TASK_TIMEOUT: TimeoutError,
  POOL_CLOSED: PoolClosedError,
  POOL_NOT_CLOSED: BadRequestError,
  INITIALIZER_FAILED: InitializerError,
  MODULE_LOAD_FAILED: InitializerError,
  POOL_TERMINATED: PoolTerminatedError,
  CANCELLED: CancelledError,
  UNAUTHENTICATED: PermissionError,
  PERMISSION_DENIED: PermissionError,
}

/** The error that a user gets for a failure. @param index of the item that failed. */
export function errorOf(failure: Failure, index?: number): FarpoolError {
  const { reason, message, started, metadata, remote } = failure
  const facts: ErrorFacts = {
    code: codeName(failure.code),
    reason,
    started,
    metadata,
    index,
    cause: remote ? remoteCause(remote) : failure.cause,
  }
  if (reason === 'FUNCTION_ERROR') return new RemoteError(message, facts, remote?.type ?? metadata['type'] ?? 'Error')
  return new (CLASSES[reason] ?? FarpoolError)(message, facts)
}

/** The same for anything that was thrown; only a Failure is converted. */
export const toError = (error: unknown): unknown => (error instanceof Failure ? errorOf(error) : error)

export const badRequest = (message: string): FarpoolError => errorOf(new Failure('BAD_REQUEST', message))

/** The error that the function threw, as an Error of this process, with its properties, causes and inner errors. */
function remoteCause(remote: RemoteErrorMessage): Error {
  const { type, message, stack, code, stackWithheld } = remote
  const options = remote.cause ? { cause: remoteCause(remote.cause) } : undefined
  const inner = remote.errors.map(remoteCause)
  const error = inner.length > 0 ? new AggregateError(inner, message, options) : new Error(message, options)
  error.name = type
  const frames = stack === '' && stackWithheld ? '    (in a worker process; the server sends no stacks)' : stack
  error.stack = `${type}: ${message}${frames && `\n${frames}`}`
  for (const [name, value] of remoteProperties(remote)) {
    // Not by assignment, which would change the prototype for the name `__proto__`.
    if (!Object.hasOwn(error, name)) Object.defineProperty(error, name, { value, ...VISIBLE })
  }
  if (code !== '') Object.defineProperty(error, 'code', { value: code, ...VISIBLE })
  return error
}

const VISIBLE = { enumerable: true, writable: true, configurable: true }

/** None if a faulty server sends what is no object. */
function remoteProperties({ properties }: RemoteErrorMessage): [string, unknown][] {
  try {
    return properties ? Object.entries(decodePayload(properties).value as object) : []
  } catch {
    return []
  }
}
