import type { Failure } from '../../wire/failure.js'
import { MAX_TIMER_MS } from '../../wire/protocol.js'
import type { Reason } from '../../wire/reason.js'
import { timeoutPassed } from '../../wire/timeout.js'
import type { FunctionCall, Transport } from './transport.js'

/** The two clocks of a call: when it is sent again, and when its deadline passes. */

/** A call is sent again for this long, counted from its first failure. */
const RESEND_MS = 10_000

/** The first pause before a call is sent again. Each pause is twice as long as the one before, up to LONGEST_PAUSE_MS. */
const FIRST_PAUSE_MS = 50
const LONGEST_PAUSE_MS = 2_000

/** Failures that may go away by themselves. */
const TEMPORARY: ReadonlySet<Reason> = new Set<Reason>([
  'SERVER_DRAINING',
  'NO_WORKERS',
  'QUEUE_FULL',
  'CONNECTION_FAILED',
])

/**
 * The one loop that sends a call, or a request, again after a failure. A call is sent again only if it certainly never
 * started, so no function runs twice. Each pause is the server's RetryInfo plus a random part, so that many clients do
 * not come back at the same moment. The loop ends RESEND_MS after the first failure, or at the call's deadline.
 */
export class Resend {
  #firstFailureAt: number | undefined
  #pauseMs = FIRST_PAUSE_MS
  #timer: NodeJS.Timeout | undefined
  #isStopped = false

  /**
   * @param deadline Unix time in milliseconds; undefined for none.
   * @param transport tells whether there has ever been a connection. If there was none, the address may be wrong, and
   *   the user gets CONNECTION_FAILED at once.
   */
  constructor(
    private readonly deadline: number | undefined,
    private readonly transport: Pick<Transport, 'wasConnected'>,
  ) {}

  /** Calls `send` after a pause and returns true, or returns false: the failure is final. */
  again(failure: Failure, send: () => void): boolean {
    const delay = this.#delayAfter(failure)
    if (delay === undefined) return false
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      send()
    }, delay)
    return true
  }

  /** Whether a pause is running: the call is not under way now. */
  get isPausing(): boolean {
    return this.#timer !== undefined
  }

  /** Ends a running pause; from now on every failure is final. */
  stop(): void {
    this.#isStopped = true
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  #delayAfter({ reason, started, retryDelayMs }: Failure): number | undefined {
    if (this.#isStopped || started !== false || !TEMPORARY.has(reason)) return undefined
    if (reason === 'CONNECTION_FAILED' && !this.transport.wasConnected) return undefined
    const now = Date.now()
    this.#firstFailureAt ??= now
    const delay = (retryDelayMs ?? 0) + this.#pauseMs * (0.5 + Math.random())
    this.#pauseMs = Math.min(LONGEST_PAUSE_MS, 2 * this.#pauseMs)
    const end = Math.min(this.deadline ?? Number.POSITIVE_INFINITY, this.#firstFailureAt + RESEND_MS)
    return now + delay > end ? undefined : delay
  }
}

/** How long the answer of a server that ends a late call may take: only the server knows whether the call had begun. */
const ANSWER_MS = 250

/**
 * Calls `onLate` with TASK_TIMEOUT when the deadline of the call passes.
 * @param serverEndsIt whether there is a server that enforces the deadline, too, and can be reached now. Then its answer has
 *   ANSWER_MS more.
 * @returns a function that stops the timer.
 */
export function atDeadline(
  { deadline, timeoutMs = 0 }: Pick<FunctionCall, 'deadline' | 'timeoutMs'>,
  onLate: (reason: Failure) => void,
  serverEndsIt: () => boolean = () => false,
): () => void {
  if (deadline === undefined) return () => {}
  const late = () => onLate(timeoutPassed(timeoutMs))
  const left = Math.min(MAX_TIMER_MS, Math.max(0, deadline - Date.now()))
  let timer = setTimeout(() => {
    if (serverEndsIt()) timer = setTimeout(late, ANSWER_MS)
    else late()
  }, left)
  return () => clearTimeout(timer)
}
