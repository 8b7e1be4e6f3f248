import { Failure } from '../../wire/failure.js'
import { MAX_TIMER_MS } from '../../wire/protocol.js'
import type { Reason } from '../../wire/reason.js'

/** A client sends a call again that has certainly not begun, with growing pauses, for so long. */
const RESEND_MS = 10_000

/** Calls back at a deadline, with the failure for it, unless it is stopped before. */
export function atDeadline(deadline: number, late: (reason: Failure) => void): () => void {
  const left = Math.min(MAX_TIMER_MS, Math.max(0, deadline - Date.now()))
  const reason = () => new Failure('TASK_TIMEOUT', "the call's timeout passed before its result came")
  const timer = setTimeout(() => late(reason()), left)
  return () => clearTimeout(timer)
}

/** Failures of calls that have certainly not begun, and may have more luck later. */
const PASSING: ReadonlySet<Reason> = new Set<Reason>([
  'SERVER_DRAINING',
  'NO_WORKERS',
  'QUEUE_FULL',
  'CONNECTION_FAILED',
])

const FIRST_PAUSE_MS = 50
const LONGEST_PAUSE_MS = 2_000

/**
 * When a call that has not begun is sent again: after what the server asked for (RetryInfo) and a pause, which grows and
 * is of a random length, so that many clients do not come back together; for RESEND_MS altogether, and not beyond its
 * deadline.
 */
export class Resend {
  #since: number | undefined
  #pauseMs = FIRST_PAUSE_MS

  constructor(
    /** Unix time in milliseconds. */
    private readonly deadline: number | undefined,
    /** Whether there has ever been a connection: where there was none, the address may be wrong, and that is to be said at once. */
    private readonly wasConnected: () => boolean,
  ) {}

  /** In how many milliseconds; undefined for never. */
  delayOf({ reason, started, retryDelayMs }: Failure): number | undefined {
    if (started !== false || !PASSING.has(reason)) return undefined
    if (reason === 'CONNECTION_FAILED' && !this.wasConnected()) return undefined
    const now = Date.now()
    this.#since ??= now
    const delay = (retryDelayMs ?? 0) + this.#pauseMs * (0.5 + Math.random())
    this.#pauseMs = Math.min(LONGEST_PAUSE_MS, 2 * this.#pauseMs)
    if (now + delay > Math.min(this.deadline ?? Number.POSITIVE_INFINITY, this.#since + RESEND_MS)) return undefined
    return delay
  }
}
