/** What the harness and its processes say to each other. */

export interface InnocentOptions {
  readonly address: string
  readonly build: string
  /** Calls in a second. */
  readonly rate: number
}

export interface HostileOptions {
  readonly address: string
  readonly build: string
  readonly kind: string
  /** Workers of the shared pool. */
  readonly processes: number
  /** Only for the control, which burns CPU and touches no server: how many CPUs. */
  readonly share: number
}

/** One measurement of the innocent. Milliseconds from when each call was due to its result. */
export interface Measured {
  /** Of calls that compute nothing, and of all others. */
  readonly tiny: readonly number[]
  readonly other: readonly number[]
  /** Why calls had another outcome than the right result, and how many; their times are among those above. */
  readonly failures: Readonly<Record<string, number>>
}

export type ToInnocent = { readonly what: 'measure'; readonly seconds: number } | { readonly what: 'finish' }
export type FromInnocent = { readonly what: 'ready' } | ({ readonly what: 'measured' } & Measured)

export type ToHostile = { readonly what: 'stop' }
/** `done`: what it got done, by name. */
export type FromHostile =
  | { readonly what: 'begun' }
  | { readonly what: 'stopped'; readonly done: Readonly<Record<string, number>> }
