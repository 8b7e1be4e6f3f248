import type { RemoteError as RemoteErrorMessage } from '../proto/gen/farpool/v1/failure.js'
import type { Failure } from '../wire/failure.js'
import { type CodeName, codeName, type Reason } from '../wire/reason.js'

/** What an error of this client says beside its message. */
export interface ErrorFacts {
  readonly code: CodeName
  readonly reason: Reason
  readonly started?: boolean | undefined
  readonly metadata?: Readonly<Record<string, string>>
  /** The index of the item that failed, in the input of a map or imap. */
  readonly index?: number | undefined
  readonly cause?: unknown
}

/** Every error of this client. Which subclass it is tells what to do; `reason` tells exactly what happened. */
export class FarpoolError extends Error {
  override readonly name: string = 'FarpoolError'
  /** The gRPC status code by name, for example "NOT_FOUND". */
  readonly code: CodeName
  /** A word from docs/errors.md, for example "WORKER_CRASHED". */
  readonly reason: Reason
  /** False: the function has certainly not run, the call can be sent again. True: it began. Undefined: unknown. */
  readonly started: boolean | undefined
  /** Facts that belong to the reason, as the server sent them. */
  readonly metadata: Readonly<Record<string, string>>
  /** In a map or imap: the index of the item that failed. */
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

/** An argument, an option or a request that cannot be right. */
export class BadRequestError extends FarpoolError {
  override readonly name: string = 'BadRequestError'
}
/** No function of that name is registered; the message names the nearest. */
export class UnknownFunctionError extends FarpoolError {
  override readonly name: string = 'UnknownFunctionError'
}
/** A value that cannot be sent, an argument or a result; or bytes that are no value. */
export class EncodingError extends FarpoolError {
  override readonly name: string = 'EncodingError'
}
/** A wait ended before the result was there (get, wait, next), or the call's own timeout passed. */
export class TimeoutError extends FarpoolError {
  override readonly name: string = 'TimeoutError'
}
/** The pool takes no more calls. */
export class PoolClosedError extends FarpoolError {
  override readonly name: string = 'PoolClosedError'
}
/** The pool was terminated while the call was in flight. */
export class PoolTerminatedError extends FarpoolError {
  override readonly name: string = 'PoolTerminatedError'
}
/** The caller cancelled the call. */
export class CancelledError extends FarpoolError {
  override readonly name: string = 'CancelledError'
}
/** The pool's workers cannot start: the initializer threw, or a module cannot be loaded. */
export class InitializerError extends FarpoolError {
  override readonly name: string = 'InitializerError'
}
/** No server, or one that takes no calls now. */
export class UnavailableError extends FarpoolError {
  override readonly name: string = 'UnavailableError'
}
/** A limit of the server: queue, message size. */
export class LimitError extends FarpoolError {
  override readonly name: string = 'LimitError'
}
/** The server does not let this caller do that. */
export class PermissionError extends FarpoolError {
  override readonly name: string = 'PermissionError'
}

/** The function threw. `cause` is what it threw, with the stack that the worker saw (where the server sends stacks). */
export class RemoteError extends FarpoolError {
  override readonly name: string = 'RemoteError'
  /** The class of what was thrown, for example "TypeError"; "string", "null", … where it was no error. */
  readonly type: string

  constructor(message: string, facts: ErrorFacts, type: string) {
    super(message, facts)
    this.type = type
  }
}

/** The worker process died while it ran the call; another has taken its place. */
export class WorkerCrashedError extends FarpoolError {
  override readonly name: string = 'WorkerCrashedError'
  readonly exitCode: number | undefined
  readonly signal: string | undefined
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

/** The error that a caller gets for a failure. `index`: of the item that failed. */
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

/** What was thrown there, as an Error here: its name, its message, its stack, its own cause. */
function remoteCause(remote: RemoteErrorMessage): Error {
  const cause = remote.cause ? { cause: remoteCause(remote.cause) } : undefined
  const error = new Error(remote.message, cause)
  error.name = remote.type
  const head = `${remote.type}: ${remote.message}`
  error.stack =
    remote.stack === '' ? `${head}\n    (in a worker process; the server sends no stacks)` : `${head}\n${remote.stack}`
  return error
}
