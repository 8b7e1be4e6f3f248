import { Failure } from './failure.js'

/** What a task was doing when a limit passed. */
export type Phase = 'queued' | 'running'

/**
 * The mark of the call's own timeout, of which only a part was left when the call arrived: the client replaces the failure by
 * one with the whole timeout.
 */
const OF_CALL = { limit: 'timeout' }

/** TASK_TIMEOUT: the call's own timeout has passed. @param phase undefined if that is not known here. */
export function timeoutPassed(limitMs: number, phase?: Phase): Failure {
  const where = phase === undefined ? 'before its result came' : `while the call was ${phase}`
  return new Failure('TASK_TIMEOUT', `the call's timeout of ${limitMs} ms passed ${where}`, {
    metadata: { ...OF_CALL, ...(phase && { phase }), limit_ms: String(limitMs) },
    ...(phase === 'running' && { started: true }),
  })
}

/** TASK_TIMEOUT: a task was in one phase for longer than it may be. */
export const phaseTimedOut = (phase: Phase, limitMs: number): Failure =>
  new Failure('TASK_TIMEOUT', `the task was ${phase} for ${limitMs} ms, which is as long as it may be`, {
    metadata: { phase, limit_ms: String(limitMs) },
  })

/** Whether the call's own timeout has passed, and not a limit of one phase. */
export const isCallTimeout = ({ reason, metadata }: Failure): boolean =>
  reason === 'TASK_TIMEOUT' && metadata['limit'] === OF_CALL.limit

/** A failure of a task in this phase: a timeout of its call says so, other failures stay as they are. */
export const inPhase = (failure: Failure, phase: Phase): Failure =>
  isCallTimeout(failure) && failure.metadata['phase'] === undefined
    ? timeoutPassed(Number(failure.metadata['limit_ms']), phase).of(failure.started ?? 'unknown')
    : failure

/** The failure of a call that its client ends before it has sent it. */
export const neverSent = (failure: Failure): Failure => inPhase(failure.of(false), 'queued')

/** The failure that a caller with this timeout gets: its own timeout, not the part of it that was left at the server. */
export function withWholeTimeout(failure: Failure, timeoutMs: number | undefined): Failure {
  if (timeoutMs === undefined || !isCallTimeout(failure)) return failure
  const phase = failure.metadata['phase']
  const whole = timeoutPassed(timeoutMs, phase === 'queued' || phase === 'running' ? phase : undefined)
  const { limit: _, ...metadata } = whole.metadata
  return new Failure('TASK_TIMEOUT', whole.message, { started: failure.started ?? 'unknown', metadata })
}
