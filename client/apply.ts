import { Failure } from '../wire/failure.js'
import { AsyncResult, fulfil, onCancel, type ResultCallbacks, reject, type Stoppable } from './async-result.js'
import type { Backing, Target } from './backing.js'
import { abortFailure, type Calls, type Cancellable, onAbort, toError } from './calls.js'
import { decode } from './request.js'
import { atDeadline, Resend } from './transport/resend.js'
import type { ChunkFailure, FunctionCall, Sink, Ticket, Transport } from './transport/transport.js'
import { NO_OUTCOME } from './transport/transport.js'

/**
 * One apply, from the encoded call to its AsyncResult. Calls come by the hundred thousand: no promise is made for one
 * before somebody asks for it.
 */
export function startApply<T>(
  calls: Calls,
  transport: Transport,
  backing: Backing,
  call: FunctionCall,
  options: ResultCallbacks<T> & { readonly signal?: AbortSignal | undefined },
): AsyncResult<T> {
  const result = new AsyncResult<T>(options)
  const apply = new Apply(calls, transport, call, result, options.signal)
  onCancel(result, apply)
  const { known } = backing
  if (known) apply.start(known)
  else {
    apply.await()
    backing.target().then(
      (target) => apply.start(target),
      (error: unknown) => apply.end(error),
    )
  }
  return result
}

/** An apply that failed before it began: its error comes as that of any other, not before the caller has the result. */
export function failedApply<T>(error: unknown, options: ResultCallbacks<T>): AsyncResult<T> {
  const result = new AsyncResult<T>(options)
  queueMicrotask(() => reject(result, error))
  return result
}

const NOTHING = (): void => {}

class Apply<T> implements Sink, Cancellable, Stoppable {
  #ticket: Ticket | undefined
  #ended = false
  /** Of a call that waits for its target, or to be sent again. */
  #stopTimer: () => void = NOTHING
  #resend: Resend | undefined
  readonly #stopListening: (() => void) | undefined

  constructor(
    private readonly calls: Calls,
    private readonly transport: Transport,
    private readonly call: FunctionCall,
    private readonly result: AsyncResult<T>,
    signal: AbortSignal | undefined,
  ) {
    calls.add(this)
    if (!signal) return
    if (signal.aborted) queueMicrotask(() => this.cancel(abortFailure(signal)))
    else this.#stopListening = onAbort(signal, () => this.cancel(abortFailure(signal)))
  }

  start({ pool }: Pick<Target, 'pool'>): void {
    if (this.#ended) return
    this.call.pool = pool
    this.#stopTimer()
    this.#ticket = this.transport.apply(this.call, this)
  }

  /** A call whose target is not known yet has no other clock. */
  await(): void {
    const { deadline } = this.call
    if (deadline === undefined) return
    this.#stopTimer = atDeadline(deadline, (late) => this.end(late.of(false)))
  }

  cancel(reason: Failure): void {
    if (this.#ticket) this.#ticket.cancel(reason)
    else this.end(reason)
  }

  stop(): void {
    this.cancel(new Failure('CANCELLED', 'the call was cancelled by its caller'))
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
    if (this.#ended) return
    this.#resend ??= new Resend(this.call.deadline, () => this.transport.wasConnected)
    const delay = this.#resend.delayOf(reason)
    if (delay === undefined) return this.end(reason)
    this.#ticket = undefined
    const timer = setTimeout(() => this.start(this.call), delay)
    this.#stopTimer = () => clearTimeout(timer)
  }

  end(error: unknown): void {
    if (this.#leave()) reject(this.result, toError(error))
  }

  #leave(): boolean {
    if (this.#ended) return false
    this.#ended = true
    this.#stopTimer()
    this.#stopListening?.()
    this.calls.remove(this)
    return true
  }
}
