import type { Failure } from '../../wire/failure.js'

/** What a worker is asked to do. Payloads are encoded and stay so: the server passes them on. */
export interface TaskSpec {
  readonly function: string
  /** The arguments, or those that stand before each item of a chunk. */
  readonly args: readonly Uint8Array[]
  readonly kwargs: Uint8Array | undefined
  /** Present for a chunk of a map. */
  readonly chunk: Uint8Array | undefined
  readonly spread: boolean
  /** A farpool.v1.PayloadKind. */
  readonly replyKind: number
  /** How often the task is run again after its worker died while running it. */
  readonly retries: number
  readonly failFast: boolean
}

/** An item of a chunk that failed. */
export interface ItemFailure {
  readonly item: number
  readonly failure: Failure
}

/** What became of a task: a payload (and, for a chunk, the items that failed), or one failure for all of it. */
export type Outcome =
  | { readonly ok: true; readonly payload: Uint8Array; readonly failures: readonly ItemFailure[] }
  | { readonly ok: false; readonly failure: Failure }

export const failed = (failure: Failure): Outcome => ({ ok: false, failure })

/** A task that the pool has accepted. `settle` is called exactly once, by the scheduler. */
export interface Task {
  readonly id: number
  readonly spec: TaskSpec
  readonly settle: (outcome: Outcome) => void
  /** 1 for the first try. */
  attempt: number
  /** The worker has said that it began this try. */
  started: boolean
}

/** The encoded bytes that a task holds while it waits. */
export function taskBytes(spec: TaskSpec): number {
  let bytes = (spec.chunk?.length ?? 0) + (spec.kwargs?.length ?? 0)
  for (const arg of spec.args) bytes += arg.length
  return bytes
}
