import { described } from '../wire/values/value-errors.js'
import { callBack } from './async-result.js'
import { badRequest, errorOf, type FarpoolError } from './errors.js'
import type { TransportEvent, WorkerExit } from './transport/transport.js'

export type { WorkerExit } from './transport/transport.js'

/** The events of a Pool, and the type of their `detail`. */
export interface PoolEvents {
  /** There is a connection to the server. Local pools have none. */
  connected: undefined
  /** The connection to the server has ended; the next call makes another. */
  disconnected: FarpoolError
  /** A worker of a local pool, or of a pool of this client's own, has ended; another replaces it unless the pool ends. */
  workerExited: WorkerExit
}

/** What `pool.events.addEventListener` takes. `D`: the type of the event's `detail`. */
export type PoolEventListener<D> =
  | ((event: CustomEvent<D>) => unknown)
  | { handleEvent(event: CustomEvent<D>): unknown }

/** The events of a Pool: `pool.events.addEventListener('workerExited', ({ detail }) => …)`. */
export class PoolEventTarget extends EventTarget {
  /** How often each event has occurred. */
  readonly counts: Record<keyof PoolEvents, number> = { connected: 0, disconnected: 0, workerExited: 0 }
  readonly #listeners = new WeakMap<object, (event: Event) => void>()

  /**
   * Calls the listener for each event. What it throws, or rejects with, becomes a warning of the process.
   * @param listener a function, or an object with a method `handleEvent`.
   * @throws BadRequestError if there is no such event, or the listener is neither.
   */
  override addEventListener<K extends keyof PoolEvents>(
    type: K,
    listener: PoolEventListener<PoolEvents[K]>,
    options?: { once?: boolean; signal?: AbortSignal } | boolean,
  ): void {
    if (!Object.hasOwn(this.counts, type)) {
      throw badRequest(`a pool has no event ${described(type)}; it has ${Object.keys(this.counts).join(', ')}`)
    }
    if (typeof listener !== 'function' && typeof Object(listener).handleEvent !== 'function') {
      throw badRequest(`the listener is ${described(listener)}; it must be a function, or have a method handleEvent`)
    }
    const call = (event: CustomEvent<PoolEvents[K]>) =>
      typeof listener === 'function' ? listener.call(this, event) : listener.handleEvent(event)
    const known = this.#listeners.get(listener)
    // An EventTarget would end the program with an error of a listener.
    const guarded = known ?? ((event: Event) => callBack(call, event as CustomEvent<PoolEvents[K]>))
    this.#listeners.set(listener, guarded)
    super.addEventListener(type, guarded, options)
  }

  override removeEventListener<K extends keyof PoolEvents>(
    type: K,
    listener: PoolEventListener<PoolEvents[K]>,
    options?: { capture?: boolean } | boolean,
  ): void {
    // An AbortSignal calls this with what was passed to super.addEventListener.
    super.removeEventListener(type, this.#listeners.get(listener) ?? (listener as () => void), options)
  }

  /** @internal A Pool passes the events of its transport here. */
  dispatch(event: TransportEvent): void {
    this.counts[event.kind]++
    const detail =
      event.kind === 'disconnected' ? errorOf(event.reason) : event.kind === 'workerExited' ? event.exit : undefined
    this.dispatchEvent(new CustomEvent(event.kind, { detail }))
  }
}
