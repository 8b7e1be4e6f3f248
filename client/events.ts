import { callBack } from './async-result.js'
import type { FarpoolError } from './errors.js'

/** A worker process has ended; another one replaces it unless the pool is ending. */
export interface WorkerExit {
  /** The id of the process, on the machine of the pool. */
  readonly pid: number
  /** Its exit code; undefined if a signal ended it. */
  readonly exitCode: number | undefined
  /** The signal that ended it, for example "SIGKILL". */
  readonly signal: string | undefined
}

/** The events of a Pool, and the type of their `detail`. */
export interface PoolEvents {
  /** There is a connection to the server. Local pools have none. */
  connected: undefined
  /** The connection to the server has ended; the next call makes another. */
  disconnected: FarpoolError
  /** A worker of a local pool, or of a pool of this client's own, has ended. */
  workerExited: WorkerExit
}

type Listener<D> = (event: CustomEvent<D>) => unknown

/** An EventTarget for the events of a Pool: `pool.events.addEventListener('workerExited', ({ detail }) => …)`. */
export class PoolEventTarget {
  readonly #target = new EventTarget()
  readonly #listeners = new WeakMap<Listener<never>, (event: Event) => void>()

  /** Calls the listener for each event. What it throws, or rejects with, becomes a warning of the process. */
  addEventListener<K extends keyof PoolEvents>(
    type: K,
    listener: Listener<PoolEvents[K]>,
    options?: { once?: boolean; signal?: AbortSignal },
  ): void {
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

  /** @internal A Pool dispatches them. */
  dispatch<K extends keyof PoolEvents>(type: K, detail: PoolEvents[K]): void {
    this.#target.dispatchEvent(new CustomEvent(type, { detail }))
  }
}
