import type { Failure } from '../wire/failure.js'
import { neverSent, withWholeTimeout } from '../wire/timeout.js'
import { AsyncResult, cancelledByCaller, fulfil, type ResultCallbacks, reject, setTicket } from './async-result.js'
import type { Backing, Target } from './backing.js'
import { pauseBefore } from './chunk.js'
import { errorOf, toError } from './errors.js'
import type { CallOptions, RetryOptions } from './options.js'
import { decode } from './request.js'
import { atDeadline, Resend } from './transport/resend.js'
import {
  type ChunkFailure,
  type FunctionCall,
  NO_OUTCOME,
  type Pending,
  type Sink,
  type Ticket,
  type Transport,
} from './transport/transport.js'

/** A call of a Pool, as its registry sees it. */
export interface UnderWay extends Ticket {
  /** The Pool is being joined: an imap pulls the rest of its input now, since nobody may be consuming its results. */
  onJoin?(): void
}

interface RequestLimits extends Partial<Pick<FunctionCall, 'deadline' | 'timeoutMs'>> {
  readonly signal?: AbortSignal | undefined
}

/** The calls of one Pool that are under way: terminate() cancels them, and close() waits for them. */
export class Calls {
  readonly #underWay = new Set<UnderWay>()
  #whenIdle: (() => void)[] = []

  add(call: UnderWay): void {
    this.#underWay.add(call)
  }

  remove(call: UnderWay): void {
    this.#underWay.delete(call)
    if (this.#underWay.size > 0) return
    for (const resolve of this.#whenIdle.splice(0)) resolve()
  }

  cancelAll(reason: Failure): void {
    for (const call of [...this.#underWay]) call.cancel(reason)
  }

  /** The Pool is being joined. */
  join(): void {
    for (const call of [...this.#underWay]) call.onJoin?.()
  }

  /** Resolves when no call is under way. */
  idle(): Promise<void> {
    return this.#underWay.size === 0 ? Promise.resolve() : new Promise((resolve) => this.#whenIdle.push(resolve))
  }

  /**
   * Starts a request of a map or imap when its target is known. The signal, or `cancel`, can end it at any time; only the
   * first reason counts. The outcome rejects with an error for the user.
   * @param limits the deadline ends it while it waits for its target. After that, the transport does.
   */
  run<T>(
    target: Promise<Target>,
    start: (target: Target) => Pending<T>,
    { signal, deadline, timeoutMs }: RequestLimits = {},
  ): Pending<T> {
    let request: Pending<T> | undefined
    let cancelled: Failure | undefined
    let stopWaiting: (reason: Failure) => void = NOTHING
    const cancelledEarly = new Promise<never>((_, reject) => {
      stopWaiting = reject
    })
    const call: UnderWay = {
      cancel: (reason) => {
        if (cancelled) return
        cancelled = reason
        if (request) request.cancel(reason)
        else stopWaiting(reason)
      },
    }
    const late = (reason: Failure) => call.cancel(withWholeTimeout(neverSent(reason), timeoutMs))
    const outcome = async (): Promise<T> => {
      this.add(call)
      const stopListening = signal && onAbort(signal, call)
      const stopTimer = deadline === undefined ? NOTHING : atDeadline({ deadline, timeoutMs }, late)
      try {
        const known = await Promise.race([cancelledEarly, target]).finally(stopTimer)
        if (cancelled) throw cancelled
        request = start(known)
        return await request.outcome
      } catch (error) {
        throw toError(error)
      } finally {
        stopListening?.()
        this.remove(call)
      }
    }
    return { outcome: outcome(), cancel: call.cancel }
  }
}

/**
 * Starts one apply. There may be a hundred thousand at a time, so a promise is made only when the user asks the
 * AsyncResult for one.
 */
export function startApply<T>(
  calls: Calls,
  transport: Transport,
  backing: Backing,
  call: FunctionCall,
  options: ResultCallbacks<T> & Pick<CallOptions, 'signal' | 'retry'>,
): AsyncResult<T> {
  const result = new AsyncResult<T>(options)
  const apply = new Apply(calls, transport, backing, call, result, options)
  setTicket(result, apply)
  apply.begin()
  return result
}

/** An apply that failed before it was sent. It fails after applyAsync() has returned, as any other call. */
export function failedApply<T>(error: unknown, options: ResultCallbacks<T>): AsyncResult<T> {
  const result = new AsyncResult<T>(options)
  queueMicrotask(() => reject(result, error))
  return result
}

const NOTHING = (): void => {}

/**
 * One apply, from the encoded call to its AsyncResult.
 *
 *   waiting   not sent: the target is not known yet, or a pause runs before the call is sent or made again
 *   a Ticket  sent; the Ticket cancels it
 *   ended     the AsyncResult has the result or the error
 */
class Apply<T> implements Sink, UnderWay {
  #state: 'waiting' | Ticket | 'ended' = 'waiting'
  /** Stops the deadline of a call whose target is not known, or the pause before the call is made again. */
  #stopTimer: () => void = NOTHING
  #resend: Resend | undefined
  /** How often the call was made again. */
  #attempts = 0
  readonly #retry: RetryOptions | undefined
  readonly #stopListening: (() => void) | undefined

  constructor(
    private readonly calls: Calls,
    private readonly transport: Transport,
    private readonly backing: Backing,
    private readonly call: FunctionCall,
    private readonly result: AsyncResult<T>,
    { signal, retry }: Pick<CallOptions, 'signal' | 'retry'>,
  ) {
    this.#retry = retry
    calls.add(this)
    if (!signal) return
    // Not at once: applyAsync() has to return first.
    if (signal.aborted) queueMicrotask(() => this.cancel(cancelledByCaller(signal.reason)))
    else this.#stopListening = onAbort(signal, this)
  }

  /** Sends the call, now or when its target is known. It may be another one each time: a pool that was lost opens anew. */
  begin(): void {
    const { known } = this.backing
    if (known) this.#send(known)
    else this.#sendTo(this.backing.target())
  }

  #send({ pool }: Target): void {
    if (this.#state === 'ended') return
    this.call.pool = pool
    // The transport calls back only after apply() has returned (T2), so this does not overwrite a later state.
    this.#state = this.transport.apply(this.call, this)
  }

  /** Until the target is known the deadline needs a timer of its own. */
  #sendTo(target: Promise<Target>): void {
    this.#stopTimer = atDeadline(this.call, (late) => {
      this.#end(withWholeTimeout(neverSent(late), this.call.timeoutMs))
    })
    target.then(
      (known) => {
        this.#stopTimer()
        this.#send(known)
      },
      (error: unknown) => this.#end(error),
    )
  }

  cancel(reason: Failure): void {
    if (typeof this.#state === 'string') this.#end(reason)
    else this.#state.cancel(reason)
  }

  settle(payload: Uint8Array | undefined, failures: readonly ChunkFailure[]): void {
    if (!payload) return this.fail(failures[0]?.failure ?? NO_OUTCOME)
    if (!this.#leave()) return
    let value: T
    try {
      value = decode(payload) as T
    } catch (error) {
      return reject(this.result, error)
    }
    fulfil(this.result, value)
  }

  fail(reason: Failure): void {
    if (this.#state === 'ended') return
    this.#resend ??= new Resend(this.call.deadline, this.transport)
    if (this.#resend.again(reason, () => this.begin())) this.#state = 'waiting'
    else if (!this.#retry || !this.#makeAgain(errorOf(reason))) this.#end(reason)
  }

  /** Makes the call again after a pause and returns true, or returns false: the error is final. */
  #makeAgain(error: unknown): boolean {
    const pause = pauseBefore(this.#retry, this.#attempts, error, this.call.deadline)
    if (pause === undefined) return false
    this.#attempts++
    this.#state = 'waiting'
    this.#resend = undefined
    const timer = setTimeout(() => this.begin(), pause)
    this.#stopTimer = () => clearTimeout(timer)
    return true
  }

  #end(error: unknown): void {
    if (this.#leave()) reject(this.result, toError(error))
  }

  #leave(): boolean {
    if (this.#state === 'ended') return false
    this.#state = 'ended'
    this.#stopTimer()
    this.#resend?.stop()
    this.#stopListening?.()
    this.calls.remove(this)
    return true
  }
}

/** The calls that a signal cancels. One listener serves them all, however many calls share the signal. */
const callsOf = new WeakMap<AbortSignal, Set<Ticket>>()

/** Cancels the call when the signal fires, or at once if it has fired. Returns a function that stops this. */
export function onAbort(signal: AbortSignal, call: Ticket): () => void {
  if (signal.aborted) {
    call.cancel(cancelledByCaller(signal.reason))
    return NOTHING
  }
  const known = callsOf.get(signal)
  const calls = known ?? new Set()
  calls.add(call)
  if (!known) {
    callsOf.set(signal, calls)
    signal.addEventListener('abort', () => cancelAll(signal, calls), { once: true })
  }
  return () => calls.delete(call)
}

function cancelAll(signal: AbortSignal, calls: Set<Ticket>): void {
  for (const call of [...calls]) call.cancel(cancelledByCaller(signal.reason))
  calls.clear()
}
