import type { Failure } from '../../wire/failure.js'

/** Whoever has tasks: clients take turns. An address, or an object; the same one is the same client. */
export type Client =
  | string
  | {
      /** Its outcomes are not being read: no more of its tasks begin. */
      readonly isFull: boolean
      /** Somebody keeps it from sending too many tasks: none is refused because of those that wait. */
      readonly isHeldBack: boolean
      /** With whose other clients it shares its turns: its connection. Where there is none it stands for itself. */
      readonly connection?: object | undefined
    }

/** Whose turns a client has. */
export const connectionOf = (client: Client): object | string =>
  typeof client === 'string' ? client : (client.connection ?? client)

/** What a worker is asked to do: what the tasks of one request have in common. Payloads are encoded and stay so. */
export interface Job {
  readonly function: string
  /** The arguments that stand before each task's own, or before each item of a chunk. */
  readonly args: readonly Uint8Array[]
  readonly kwargs: Uint8Array | undefined
  readonly spread: boolean
  /** A farpool.v1.PayloadKind. */
  readonly replyKind: number
  /** How often a task is run again after its worker died while running it. */
  readonly retries: number
  readonly failFast: boolean
  /** How long a task may wait for a worker, and how long it may run, in milliseconds; 0 for any time. */
  readonly queueTimeoutMs: number
  readonly runTimeoutMs: number
  /** The process that runs it lives on when the task was ended and it goes on all the same. */
  readonly neverKilled: boolean
  readonly client: Client
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

/** Who waits for a task: told once, with the number by which it knows the task. */
export interface Owner {
  settled(key: number, outcome: Outcome): void
}

/** What a task costs its worker and the server besides, in milliseconds: the smallest take their turns by number. */
const TASK_MS = 0.1

const NO_ARGS: readonly Uint8Array[] = []

/**
 * A task that the pool has accepted. Made by the million: everything that is known of a task stands in this one object,
 * also its place in the queue (queue.ts).
 */
export class Task {
  /** 1 for the first try. */
  attempt = 1
  /** The worker has said that it began this try. */
  started = false
  /** Its owner has been told; whatever comes after is too late. */
  settled = false
  /** In a worker's hand: when it must have begun, by the monotonic clock; 0 for whenever. */
  beginBy = 0
  /** In a worker's hand: how long it is expected to run, in milliseconds. */
  expectedMs = 0
  /** Of a chunk in this try: how many items have ended, as far as is known. */
  itemsDone = 0
  /** Workers that died of being given it, one after another; of those up to this one no further counts (losses.ts). */
  fatalities = 0
  fatalUpTo = 0
  /** Why its last try failed, where it is to run again. */
  crash: Failure | undefined
  /** When it has waited too long for a worker, by the monotonic clock; 0 where nothing has been said, or not yet. */
  waitsUntil = 0
  /** Ends it when it has waited, or run, too long. */
  timer: NodeJS.Timeout | undefined
  /** The encoded bytes that it holds, without those of its job. */
  readonly bytes: number
  /** While it waits: the line in which it stands, and its neighbours there (queue.ts). */
  line: unknown
  previous: Task | undefined
  next: Task | undefined
  /** Who pays for its run with later turns: the line in which it stood. */
  payer: { paid(ms: number): void } | undefined

  constructor(
    readonly id: number,
    readonly job: Job,
    readonly args: readonly Uint8Array[] | undefined,
    /** Present for a chunk of a map. */
    readonly chunk: Uint8Array | undefined,
    private readonly owner: Owner,
    private readonly key: number,
  ) {
    let bytes = chunk?.length ?? 0
    if (args) for (const arg of args) bytes += arg.length
    this.bytes = bytes
  }

  get ownArgs(): readonly Uint8Array[] {
    return this.args ?? NO_ARGS
  }

  /** It goes back to the queue: what was known of its run is void. */
  putBack(): void {
    if (this.started) clearTimeout(this.timer)
    this.started = false
  }

  /** It has run for so long, whatever it was expected to. */
  ran(ms: number): void {
    this.payer?.paid(ms + TASK_MS)
  }

  /** For the ledger, which sees to it that it happens once. */
  settle(outcome: Outcome): void {
    this.settled = true
    if (this.timer) clearTimeout(this.timer)
    this.owner.settled(this.key, outcome)
  }
}
