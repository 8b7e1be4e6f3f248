/** The options of the harness's processes, and the messages between them and the main process. */

export interface InnocentOptions {
  readonly address: string
  readonly build: string
  /** Calls per second. */
  readonly rate: number
}

export interface HostileOptions {
  readonly address: string
  readonly build: string
  readonly kind: string
  /** Workers of the shared pool. */
  readonly processes: number
  /** The CPUs that the control burns, which never calls the server. Other kinds ignore it. */
  readonly cpus: number
}

/** One measurement of the innocent client: milliseconds from the time when each call was due to its result. */
export interface Measured {
  /** Times of the calls that compute nothing. */
  readonly tiny: readonly number[]
  /** Times of all other calls. */
  readonly other: readonly number[]
  /** The number of calls without the right result, by the reason. Their times are in the lists above too. */
  readonly failures: Readonly<Record<string, number>>
}

export type InnocentCommand = { readonly type: 'measure'; readonly seconds: number } | { readonly type: 'finish' }
export type InnocentReport = { readonly type: 'ready' } | ({ readonly type: 'measured' } & Measured)

export type HostileCommand = { readonly type: 'stop' }
export type HostileReport =
  | { readonly type: 'begun' }
  /** `done` counts the results of the attack, by name. */
  | { readonly type: 'stopped'; readonly done: Readonly<Record<string, number>> }
