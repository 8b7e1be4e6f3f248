/**
 * The table of failures: the gRPC code of each reason, and whether the task has started. A task that has not started can be
 * sent again without running twice. docs/reference/errors.md describes each reason.
 */

/** The gRPC status codes. */
export const Code = {
  OK: 0,
  CANCELLED: 1,
  UNKNOWN: 2,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  OUT_OF_RANGE: 11,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  DATA_LOSS: 15,
  UNAUTHENTICATED: 16,
} as const
export type CodeName = keyof typeof Code
export type Code = (typeof Code)[CodeName]

const NAMES: readonly CodeName[] = (Object.keys(Code) as CodeName[]).sort((a, b) => Code[a] - Code[b])

/** The name of a gRPC status code; UNKNOWN for any other number. */
export const codeName = (code: number): CodeName => NAMES[code] ?? 'UNKNOWN'

interface ReasonRow {
  readonly code: CodeName
  /** Whether the task has started; undefined if the reason alone does not tell. */
  readonly started?: boolean
  /** It is the reason of a whole request, never of one item: the others would fail as well. */
  readonly ofRequest?: true
}

export const REASONS = {
  BAD_REQUEST: { code: 'INVALID_ARGUMENT', started: false },
  PAYLOAD_DECODE_FAILED: { code: 'INVALID_ARGUMENT', started: false },
  /** From a client: the argument was never sent. */
  ARGUMENT_ENCODE_FAILED: { code: 'INVALID_ARGUMENT', started: false },
  FUNCTION_NOT_FOUND: { code: 'NOT_FOUND', started: false, ofRequest: true },
  POOL_NOT_FOUND: { code: 'NOT_FOUND', started: false, ofRequest: true },
  /** The function threw. Its error may set another code (worker/describe-error.ts). */
  FUNCTION_ERROR: { code: 'UNKNOWN', started: true },
  RESULT_ENCODE_FAILED: { code: 'INTERNAL', started: true },
  /** Not UNAVAILABLE: gRPC clients send an UNAVAILABLE call again by themselves, and the task may have run. */
  WORKER_CRASHED: { code: 'INTERNAL', started: true },
  WORKER_OOM: { code: 'INTERNAL', started: true },
  SERVER_DRAINING: { code: 'UNAVAILABLE', started: false, ofRequest: true },
  NO_WORKERS: { code: 'UNAVAILABLE', started: false, ofRequest: true },
  /** From a client: there is no connection, and the call was never sent. */
  CONNECTION_FAILED: { code: 'UNAVAILABLE', started: false, ofRequest: true },
  /** From a client: the connection broke after the call was sent, and its session could not be resumed. */
  CONNECTION_LOST: { code: 'ABORTED', ofRequest: true },
  /** A stream resumes a session that this server process does not know, or has forgotten. */
  SESSION_LOST: { code: 'NOT_FOUND', ofRequest: true },
  QUEUE_FULL: { code: 'RESOURCE_EXHAUSTED', started: false, ofRequest: true },
  PAYLOAD_TOO_LARGE: { code: 'RESOURCE_EXHAUSTED', started: false },
  RESULT_TOO_LARGE: { code: 'RESOURCE_EXHAUSTED', started: true },
  /** Not run: an item of a chunk, and those behind it, because the results before it fill a message. Its client sends them again. */
  CHUNK_FULL: { code: 'RESOURCE_EXHAUSTED', started: false },
  TASK_TIMEOUT: { code: 'DEADLINE_EXCEEDED' },
  POOL_CLOSED: { code: 'FAILED_PRECONDITION', started: false, ofRequest: true },
  POOL_NOT_CLOSED: { code: 'FAILED_PRECONDITION', started: false },
  INITIALIZER_FAILED: { code: 'FAILED_PRECONDITION', started: false, ofRequest: true },
  MODULE_LOAD_FAILED: { code: 'FAILED_PRECONDITION', started: false, ofRequest: true },
  POOL_TERMINATED: { code: 'ABORTED' },
  CANCELLED: { code: 'CANCELLED' },
  UNAUTHENTICATED: { code: 'UNAUTHENTICATED', started: false, ofRequest: true },
  PERMISSION_DENIED: { code: 'PERMISSION_DENIED', started: false, ofRequest: true },
  /** A bug in farpool, or a status that another program made, for example a proxy. */
  INTERNAL: { code: 'INTERNAL' },
} as const satisfies Record<string, ReasonRow>

export type Reason = keyof typeof REASONS

export const isReason = (text: string): text is Reason => Object.hasOwn(REASONS, text)

/** Whether a task with this reason has started; undefined if the reason alone does not tell. */
export function startedByReason(reason: Reason): boolean | undefined {
  const row: ReasonRow = REASONS[reason]
  return row.started
}

/** Whether the reason is that of a whole request, never of one item. */
export function isOfRequest(reason: Reason): boolean {
  const row: ReasonRow = REASONS[reason]
  return row.ofRequest === true
}
