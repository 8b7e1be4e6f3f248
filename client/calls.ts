import { Failure } from '../wire/failure.js'
import { errorOf } from './errors.js'
import type { Pending } from './transport/transport.js'

/** Who listens to a signal. One listener of ours stands for all, however many calls share the signal. */
const listeners = new WeakMap<AbortSignal, Set<() => void>>()

/** Calls back once when the signal fires, at once if it has; returns how to stop listening. */
export function onAbort(signal: AbortSignal, callback: () => void): () => void {
  if (signal.aborted) {
    callback()
    return () => {}
  }
  const known = listeners.get(signal)
  const callbacks = known ?? new Set()
  callbacks.add(callback)
  if (!known) {
    listeners.set(signal, callbacks)
    signal.addEventListener('abort', () => fire(callbacks), { once: true })
  }
  return () => callbacks.delete(callback)
}

function fire(callbacks: Set<() => void>): void {
  for (const callback of [...callbacks]) callback()
  callbacks.clear()
}

/** Something of a pool that is under way and can be ended from outside. */
export interface Cancellable {
  cancel(reason: Failure): void
}

/** The calls of one Pool that are under way: what terminate() ends and join() waits for. */
export class Calls {
  readonly #underWay = new Set<Cancellable>()
  #whenIdle: (() => void)[] = []

  add(call: Cancellable): void {
    this.#underWay.add(call)
  }

  remove(call: Cancellable): void {
    this.#underWay.delete(call)
    if (this.#underWay.size > 0) return
    for (const resolve of this.#whenIdle.splice(0)) resolve()
  }

  /** Calls of a class, for whoever has to tell them something. */
  *of<T extends Cancellable>(type: abstract new (...args: never[]) => T): Iterable<T> {
    for (const call of this.#underWay) if (call instanceof type) yield call
  }

  cancelAll(reason: Failure): void {
    for (const call of [...this.#underWay]) call.cancel(reason)
  }

  /** Resolves when none is under way. */
  idle(): Promise<void> {
    return this.#underWay.size === 0 ? Promise.resolve() : new Promise((resolve) => this.#whenIdle.push(resolve))
  }

  /**
   * Starts a request when its target is known and resolves with its outcome. The signal, terminate(), or the target's
   * own failure can end it at any time. Everything it rejects with is an error for the caller.
   */
  async run<Target, T>(
    target: Promise<Target> | Target,
    start: (target: Target) => Pending<T>,
    signal?: AbortSignal | undefined,
  ): Promise<T> {
    let pending: Pending<T> | undefined
    let rejectEarly: (reason: Failure) => void = () => {}
    const call: Cancellable = {
      cancel: (reason) => (pending ? pending.cancel(reason) : rejectEarly(reason)),
    }
    this.add(call)
    if (signal?.aborted) {
      this.remove(call)
      throw toError(abortFailure(signal))
    }
    const stopListening = signal && onAbort(signal, () => call.cancel(abortFailure(signal)))
    try {
      if (target instanceof Promise) {
        const cancelled = new Promise<never>((_, reject) => {
          rejectEarly = reject
        })
        target = await Promise.race([target, cancelled])
      }
      pending = start(target)
      return await pending.outcome
    } catch (error) {
      throw toError(error)
    } finally {
      stopListening?.()
      this.remove(call)
    }
  }
}

/** What a caller gets for whatever went wrong inside. */
export const toError = (error: unknown): unknown => (error instanceof Failure ? errorOf(error) : error)

export const abortFailure = (signal: AbortSignal | undefined): Failure =>
  new Failure('CANCELLED', 'the call was cancelled by its caller', { cause: signal?.reason })
