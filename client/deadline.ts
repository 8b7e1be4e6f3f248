import { Failure } from '../wire/failure.js'
import { MAX_TIMER_MS } from '../wire/limits.js'

/** Calls back at a deadline, with the failure for it, unless it is stopped before. */
export function atDeadline(deadline: number, late: (reason: Failure) => void): () => void {
  const left = Math.min(MAX_TIMER_MS, Math.max(0, deadline - Date.now()))
  const reason = () => new Failure('TASK_TIMEOUT', "the call's timeout passed before its result came")
  const timer = setTimeout(() => late(reason()), left)
  return () => clearTimeout(timer)
}
