import type { Failure } from '../wire/failure.js'
import { AsyncResult, fulfil, type ResultCallbacks, reject } from './async-result.js'
import type { Backing, Target } from './backing.js'
import { abortFailure, type Calls, type Cancellable, toError } from './calls.js'
import { decode } from './encode.js'
import { onAbort } from './signals.js'
import type { ChunkFailure, FunctionCall, Sink, Ticket, Transport } from './transport.js'
import { NO_OUTCOME } from './transport.js'

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
  const apply = new Apply(calls, result, options.signal)
  const { known } = backing
  if (known) apply.start(transport, call, known)
  else {
    backing.target().then(
      (target) => apply.start(transport, call, target),
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

class Apply<T> implements Sink, Cancellable {
  #ticket: Ticket | undefined
  #ended = false
  readonly #stopListening: (() => void) | undefined

  constructor(
    private readonly calls: Calls,
    private readonly result: AsyncResult<T>,
    signal: AbortSignal | undefined,
  ) {
    calls.add(this)
    if (!signal) return
    if (signal.aborted) queueMicrotask(() => this.cancel(abortFailure(signal)))
    else this.#stopListening = onAbort(signal, () => this.cancel(abortFailure(signal)))
  }

  start(transport: Transport, call: FunctionCall, { pool }: Target): void {
    if (this.#ended) return
    call.pool = pool
    this.#ticket = transport.apply(call, this)
  }

  cancel(reason: Failure): void {
    if (this.#ticket) this.#ticket.cancel(reason)
    else this.fail(reason)
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
    this.end(reason)
  }

  end(error: unknown): void {
    if (this.#leave()) reject(this.result, toError(error))
  }

  #leave(): boolean {
    if (this.#ended) return false
    this.#ended = true
    this.#stopListening?.()
    this.calls.remove(this)
    return true
  }
}
