import { callBack } from './async-result.js'
import { badRequest, errorOf, type FarpoolError } from './errors.js'
import { described } from './options.js'
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

type Listener<D> = (event: CustomEvent<D>) => unknown

/** An EventTarget for the events of a Pool: `pool.events.addEventListener('workerExited', ({ detail }) => …)`. */
export class PoolEventTarget {
  /** How often each event has occurred. */
  readonly counts: Record<keyof PoolEvents, number> = { connected: 0, disconnected: 0, workerExited: 0 }
  readonly #target = new EventTarget()
  readonly #listeners = new WeakMap<Listener<never>, (event: Event) => void>()

  /**
   * Calls the listener for each event. What it throws, or rejects with, becomes a warning of the process.
   * @throws BadRequestError if there is no such event, or the listener is no function.
   */
  addEventListener<K extends keyof PoolEvents>(
    type: K,
    listener: Listener<PoolEvents[K]>,
    options?: { once?: boolean; signal?: AbortSignal },
  ): void {
    if (!Object.hasOwn(this.counts, type)) {
      throw badRequest(`a pool has no event ${described(type)}; it has ${Object.keys(this.counts).join(', ')}`)
    }
    if (typeof listener !== 'function')
      throw badRequest(`the listener is ${described(listener)}; it must be a function`)
    const known = this.#listeners.get(listener)
    // An EventTarget would end the program with an error of a listener.
    const guarded = known ?? ((event: Event) => callBack(listener, event as CustomEvent<PoolEvents[K]>))
    this.#listeners.set(listener, guarded)
    this.#target.addEventListener(type, guarded, options)
  }

  removeEventListener<K extends keyof PoolEvents>(type: K, listener: Listener<PoolEvents[K]>): void {
    const guarded = this.#listeners.get(listener)
    if (guarded) this.#target.removeEventListener(type, guarded)
  }

  /** @internal A Pool passes the events of its transport here. */
  dispatch(event: TransportEvent): void {
    this.counts[event.kind]++
    const detail =
      event.kind === 'disconnected' ? errorOf(event.reason) : event.kind === 'workerExited' ? event.exit : undefined
    this.#target.dispatchEvent(new CustomEvent(event.kind, { detail }))
  }
}
