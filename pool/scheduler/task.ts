import { Failure } from '../../wire/failure.js'
import { bytesOf } from '../../wire/framing/protobuf.js'

/**
 * The party that calls: the unit of fairness, of per-client limits and of ownership. It is a `Principal` (server/auth) or, for
 * callers without a name, their connection (`Account` in server/limits). Two identities are the same if they are the same
 * object.
 */
export interface Identity {
  /** For logs and messages, for example the peer's address. */
  readonly name: string
}

/**
 * One source of tasks: a stream of calls, or all single RPCs of one connection. Each client has a queue of its own in
 * every pool. Implemented by `CallStream` and `Caller` in server/. The scheduler only reads it.
 */
export interface Client {
  /** Clients with one identity share its part of the workers' time. */
  readonly identity: Identity
  /** Too many of its outcomes have not been read: none of its tasks begins until `Pool.resume()`. */
  readonly isFull: boolean
  /** Its owner stops reading its requests in time, so the per-client queue limit does not refuse its tasks. */
  readonly isPaced: boolean
}

/** What the tasks of one request have in common. Payloads are encoded, and stay encoded. */
export interface Job {
  readonly function: string
  /** Arguments in front of each task's own arguments, or in front of each item of a chunk. */
  readonly args: readonly Uint8Array[]
  readonly kwargs: Uint8Array | undefined
  /** Each item of a chunk is an array of arguments (starmap). */
  readonly spread: boolean
  /** A farpool.v1.PayloadKind. */
  readonly replyKind: number
  /** How many more times a task runs if its worker dies while running it. */
  readonly retries: number
  readonly failFast: boolean
  /** A chunk may stop when its results are large. */
  readonly allowPartial: boolean
  /** Longest time in the queue, and longest run, in milliseconds; 0 for no limit. */
  readonly queueTimeoutMs: number
  readonly runTimeoutMs: number
  /** A task that goes on after its abort signal never costs its worker process the life. */
  readonly neverKilled: boolean
  readonly client: Client
}

/** The fields of a request that the tasks in it have in common. */
export interface JobRequest {
  readonly function: string
  /** Arguments in front of each task's own. */
  readonly args: readonly Uint8Array[]
  readonly kwargs?: Uint8Array | undefined
  readonly replyKind: number
  readonly retries: number
  readonly queueTimeoutMs: number
  readonly runTimeoutMs: number
  readonly spread: boolean
  readonly allowPartial: boolean
}

/** What the job of a request depends on besides the request. */
export interface JobDefaults {
  /** What the function's module says of it (`configure`). */
  readonly info: { readonly retries: number; readonly runTimeoutMs: number; readonly neverKilled: boolean }
  /** The pool's own limit; 0 for none. */
  readonly runTimeoutMs: number
}

/**
 * The job that a request asks for. Options come from the request, otherwise from the function's module, otherwise from
 * the pool. @throws Failure BAD_REQUEST.
 */
export function jobOf(request: JobRequest, client: Client, failFast: boolean, defaults: JobDefaults): Job {
  const { args, kwargs, spread, replyKind, retries, allowPartial, queueTimeoutMs, runTimeoutMs } = request
  const { info } = defaults
  if (retries < 0) throw new Failure('BAD_REQUEST', `retries is ${retries}; it must be 0 or more`)
  return {
    function: request.function,
    args,
    kwargs,
    spread,
    replyKind,
    retries: retries || info.retries,
    failFast,
    allowPartial,
    queueTimeoutMs,
    runTimeoutMs: runTimeoutMs || info.runTimeoutMs || defaults.runTimeoutMs,
    neverKilled: info.neverKilled,
    client,
  }
}

/** The failure of one item of a chunk. */
export interface ItemFailure {
  readonly item: number
  readonly failure: Failure
}

/** The result of a task: a payload (with the failed items, for a chunk), or one failure for the whole task. */
export type Outcome =
  | { readonly ok: true; readonly payload: Uint8Array; readonly failures: readonly ItemFailure[] }
  | { readonly ok: false; readonly failure: Failure }

export const failed = (failure: Failure): Outcome => ({ ok: false, failure })

/** Receives the outcome of a task, exactly once. */
export interface TaskOwner {
  /** @param key the number under which the owner submitted the task. */
  settled(key: number, outcome: Outcome): void
}

/** What a caller hands to `submit`. */
export interface TaskRequest {
  readonly job: Job
  /** The task's own arguments; undefined for a chunk. */
  readonly args: readonly Uint8Array[] | undefined
  /** The encoded items of a chunk of a map; undefined for a single call. */
  readonly chunk: Uint8Array | undefined
  readonly owner: TaskOwner
  readonly key: number
  /** It belongs to a request that holds the pool: it is accepted while the pool closes, and whatever the queue limits say. */
  readonly isHeld: boolean
}

/** Added to each run time for its cost outside of the function, in milliseconds: tiny tasks then share the workers by number. */
const OVERHEAD_MS = 0.1

const NO_ARGS: readonly Uint8Array[] = []

/**
 * A task that the pool has accepted. There can be millions, so everything about a task is in this one object, also its
 * links in the queue (fair-queue.ts).
 */
export class Task {
  readonly job: Job
  readonly args: readonly Uint8Array[]
  readonly chunk: Uint8Array | undefined
  /** Encoded bytes of its arguments or its chunk, without those of its job. */
  readonly bytes: number
  /** 1 for the first run, 2 for the first retry. */
  attempt = 1
  /** The worker has reported the start of this attempt. */
  started = false
  /** The owner has its outcome. A later outcome changes nothing. */
  settled = false
  /** In a run queue: the time by which it must have begun (monotonic clock); 0 for no limit. */
  beginBy = 0
  /** In a run queue: its estimated run time in milliseconds. */
  expectedMs = 0
  /** Items of the chunk that have ended in this attempt, as far as the worker has reported. */
  itemsDone = 0
  /** Workers in a row that died when they were given this task, before it began. */
  fatalWorkers = 0
  /** Workers up to this number are not counted again in `fatalWorkers` (crash recovery in scheduler.ts). */
  fatalUpTo = 0
  /** The failure of the attempt before this one, while the task waits for its retry. */
  crash: Failure | undefined
  /** The end of its time in the queue (monotonic clock); 0 for no limit. */
  waitsUntil = 0
  /** The timer of its queue timeout or run timeout. pool.ts owns it. */
  timer: NodeJS.Timeout | undefined
  /** Its list in the queue, and its neighbours there; undefined outside of the queue. */
  list: unknown
  previous: Task | undefined
  next: Task | undefined
  /** Pays for its run with later turns: the client queue that it came from. */
  payer: { charge(ms: number): void } | undefined
  private readonly owner: TaskOwner
  private readonly key: number

  constructor(
    readonly id: number,
    { job, args = NO_ARGS, chunk, owner, key }: TaskRequest,
  ) {
    this.job = job
    this.args = args
    this.chunk = chunk
    this.owner = owner
    this.key = key
    this.bytes = bytesOf(args, chunk)
  }

  /** Forgets the current attempt's start, because the task goes back to the queue. */
  resetStart(): void {
    if (this.started) clearTimeout(this.timer)
    this.started = false
  }

  /** Charges its client for a run of this length. */
  charge(ms: number): void {
    this.payer?.charge(ms + OVERHEAD_MS)
  }

  /** Called by the scheduler, once. */
  settle(outcome: Outcome): void {
    this.settled = true
    if (this.timer) clearTimeout(this.timer)
    this.owner.settled(this.key, outcome)
  }
}
