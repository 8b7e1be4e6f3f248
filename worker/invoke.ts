/**
 * The execution of one task: decode the arguments, call the function, encode the result.
 *
 *     invoke ─▶ invokeOnce    a task with arguments of its own: one call
 *            ─▶ invokeChunk   a task with a chunk: one call for each item, and a failure for each item that failed
 */

import { PayloadKind } from '../proto/gen/farpool/v1/payload.js'
import type { Done, ItemFailure, Run, Task } from '../proto/gen/farpool/worker/v1/worker.js'
import type { Status } from '../proto/gen/google/rpc/status.js'
import { halfway } from '../wire/chunks.js'
import { asFailure, Failure, failureToStatus } from '../wire/failure.js'
import { decodePayload, encodePayload, type Kind, kindOf } from '../wire/values/payload.js'
import { sizeBound } from '../wire/values/size-bound.js'
import { DecodeError, described, EncodeError } from '../wire/values/value-errors.js'
import { type Description, functionFailure } from './describe-error.js'
import type { UserFunction } from './load-functions.js'

/** A task and all that its execution needs. */
export interface Invocation {
  readonly call: UserFunction
  readonly run: Run
  readonly task: Task
  /** The task while it runs, as a chunk needs it. */
  readonly running: {
    /** Whether the caller has given up. A chunk then stops between two items. */
    readonly isAborted: boolean
    /** Reports how many items of the chunk have ended. */
    progress(items: number): void
  }
  /** Whether failures carry stacks. */
  readonly stacks: boolean
  /** The longest payload of a result, or of the results of a chunk. */
  readonly maxResultBytes: number
}

/**
 * Executes a task. Never throws: every error becomes a failure in Done. The result is a promise only if the function
 * returns one or the task has a chunk, because short synchronous functions are called by the ten thousand.
 */
export function invoke(invocation: Invocation): Done | Promise<Done> {
  const { task } = invocation
  try {
    const done = task.chunk ? invokeChunk(invocation, task.chunk) : invokeOnce(invocation)
    return done instanceof Promise
      ? done.catch((error: unknown) => failedDone(task.task, functionFailure(error, description(invocation))))
      : done
  } catch (error) {
    return failedDone(task.task, functionFailure(error, description(invocation)))
  }
}

/** How errors of the function are described: in the kind of its result, but never as raw bytes. */
function description({ run, task, stacks }: Invocation): Description {
  const first = run.args[0] ?? task.args[0] ?? task.chunk ?? run.kwargs
  const isCbor =
    run.replyKind === PayloadKind.PAYLOAD_KIND_CBOR ||
    (run.replyKind === PayloadKind.PAYLOAD_KIND_UNSPECIFIED && first !== undefined && kindOf(first) === 'cbor')
  return { stacks, kind: isCbor ? 'cbor' : 'json' }
}

/** The report of a task that failed as a whole. */
export const failedDone = (task: number, failure: Failure): Done => ({
  task,
  payload: undefined,
  failures: [],
  status: failureToStatus(failure),
  runMs: 0,
})

function invokeOnce({ call, run, task }: Invocation): Done | Promise<Done> {
  const bound = decodeBound(run, task.args)
  const kind = replyKind(run.replyKind, bound.kind ?? 'json')
  const result: unknown = call(...bound.args, ...bound.kwargs)
  if (!isThenable(result)) return resultDone(task.task, result, kind)
  return Promise.resolve(result).then((resolved) => resultDone(task.task, resolved, kind))
}

const resultDone = (task: number, result: unknown, kind: Kind): Done => ({
  task,
  payload: encodeResult(result, kind),
  failures: [],
  status: undefined,
  runMs: 0,
})

async function invokeChunk(invocation: Invocation, chunk: Uint8Array): Promise<Done> {
  const { call, run, task, running, maxResultBytes } = invocation
  const bound = decodeBound(run, [])
  const { kind: chunkKind, value } = decodePart(chunk, 'the chunk')
  const items = chunkKind === 'raw' ? [value] : value
  if (!Array.isArray(items)) {
    throw new Failure('BAD_REQUEST', `a chunk holds ${described(items)}; it must hold an array of items`)
  }
  const kind = replyKind(run.replyKind, chunkKind)
  if (kind === 'raw' && items.length !== 1) {
    const message = `a chunk has ${items.length} items and a raw reply carries one result; send chunks of one item, or ask for cbor`
    throw new Failure('BAD_REQUEST', message)
  }
  const results = new Results(kind, maxResultBytes, run.allowPartial)
  const callItem = itemCaller(call, bound, run.spread)
  const pauses = new Pauses()
  while (results.ran < items.length && !results.areFull()) {
    try {
      const to = Math.min(items.length, results.ran + pauses.stride)
      const pending = callItems(callItem, items, results.ran, to, results)
      if (pending !== undefined) results.add(await pending)
    } catch (error) {
      results.fail(results.ran, functionFailure(error, description(invocation)))
    }
    if (running.isAborted || (run.failFast && results.hasFailures)) break
    if (!pauses.isDue(results.ran)) continue
    if (results.ran < items.length) running.progress(results.ran)
    await new Promise(setImmediate)
  }
  const payload = results.encode()
  if (results.areFull() && results.ran < items.length) results.fail(results.ran, CHUNK_FULL)
  return { task: task.task, payload, failures: results.failures, status: undefined, runMs: 0 }
}

const CHUNK_FULL = new Failure(
  'CHUNK_FULL',
  'this item and those behind it were not run: the results before them fill a message; send them in another chunk',
)

/** The outcomes of the items of a chunk, while it runs. Each item that has run has either a result or a failure. */
class Results {
  readonly #values: unknown[] = []
  readonly #failures = new Map<number, Status>()
  /** The results of the items before this one can be sent together. */
  #checked = 0
  /** How many bytes these take. */
  #checkedBytes = 0
  /** At most how many bytes all results take. */
  #bytes = 0
  #failureBytes = 0
  /** What the last check has encoded, if it was all results of that time. */
  #whole: { readonly results: number; readonly payload: Uint8Array } | undefined
  readonly #numberBytes: number
  /** With as many bytes, the results are checked. */
  readonly #fullBytes: number

  /** @param allowPartial the chunk may stop before its last item. */
  constructor(
    private readonly kind: Kind,
    private readonly maxBytes: number,
    private readonly allowPartial: boolean,
  ) {
    this.#numberBytes = sizeBound(0, kind, maxBytes)
    this.#fullBytes = allowPartial ? maxBytes / 2 : maxBytes
  }

  /** How many items have run. */
  get ran(): number {
    return this.#values.length + this.#failures.size
  }

  get hasFailures(): boolean {
    return this.#failures.size > 0
  }

  /** Whether the chunk has to stop. */
  areFull(): boolean {
    if (this.#bytes + this.#failureBytes < this.#fullBytes) return false
    this.#check()
    return this.allowPartial && this.#bytes + this.#failureBytes >= this.#fullBytes
  }

  /** In the order of the items. */
  get failures(): ItemFailure[] {
    return [...this.#failures].sort(([a], [b]) => a - b).map(([item, status]) => ({ item, status }))
  }

  /** The next item has this result. */
  add(value: unknown): void {
    this.#values.push(value)
    this.#bytes += typeof value === 'number' ? this.#numberBytes : sizeBound(value, this.kind, this.maxBytes)
  }

  fail(item: number, failure: Failure): void {
    const status = failureToStatus(failure)
    this.#failures.set(item, status)
    if (this.allowPartial) this.#failureBytes += boundOf(status)
  }

  /** All results as one payload. Those that it cannot carry become failures of their items. */
  encode(): Uint8Array {
    if (this.#whole?.results === this.#values.length) return this.#whole.payload
    try {
      const payload = this.#encoded(this.#values)
      if (payload.length <= this.maxBytes) return payload
    } catch {
      // The check says which of them cannot be encoded.
    }
    this.#check()
    return this.#encoded(this.#values)
  }

  /** Encodes the results that have not been checked, to learn their size and whether they can be sent. */
  #check(): void {
    const { ran } = this
    const items: number[] = []
    for (let item = this.#checked; item < ran; item++) if (!this.#failures.has(item)) items.push(item)
    this.#keep(this.#values.splice(this.#values.length - items.length), items)
    this.#checked = ran
    this.#bytes = this.#checkedBytes
  }

  /** Keeps the results of these items, except for those that do not fit or cannot be encoded. */
  #keep(values: readonly unknown[], items: readonly number[]): void {
    const [item] = items
    if (item === undefined) return
    const why = this.#refusal(values)
    if (why === undefined) for (const value of values) this.#values.push(value)
    else if (values.length === 1) this.fail(item, refusalOf(values[0], this.kind, why))
    else {
      const half = halfway(values.map((value) => sizeBound(value, this.kind, this.maxBytes)))
      this.#keep(values.slice(0, half), items.slice(0, half))
      this.#keep(values.slice(half), items.slice(half))
    }
  }

  /** Why not all of these results can be sent, with those that have been checked. If they can, they count as checked. */
  #refusal(values: readonly unknown[]): Failure | undefined {
    this.#whole = undefined
    try {
      const payload = this.#encoded(values)
      const bytes = this.#checkedBytes + payload.length
      if (bytes > this.maxBytes) return this.#tooLarge(payload.length)
      this.#checkedBytes = bytes
      if (this.#values.length === 0) this.#whole = { results: values.length, payload }
      return undefined
    } catch (error) {
      return asFailure(error)
    }
  }

  #tooLarge(bytes: number): Failure {
    const limit = `the limit is ${this.maxBytes}`
    const message =
      bytes > this.maxBytes
        ? `the result has ${bytes} bytes; ${limit}`
        : `the result has ${bytes} bytes, and other results of its chunk ${this.#checkedBytes}; ${limit}; use a smaller chunksize`
    return new Failure('RESULT_TOO_LARGE', message)
  }

  #encoded(values: readonly unknown[]): Uint8Array {
    // A raw chunk has one item. If that failed, it has no result.
    if (this.kind === 'raw') return encodeResult(values.length > 0 ? values[0] : new Uint8Array(), 'raw')
    // As for one call: JSON has no undefined.
    return encodeResult(this.kind === 'json' ? values.map((value) => value ?? null) : values, this.kind)
  }
}

/** At most how many bytes a failure takes. */
function boundOf({ message, details }: Status): number {
  let bytes = 64 + 3 * message.length
  for (const { value } of details) bytes += 64 + value.length
  return bytes
}

/** Why a result cannot be sent. If it cannot be encoded, then without the array around it in the message, where possible. */
function refusalOf(value: unknown, kind: Kind, why: Failure): Failure {
  if (why.reason === 'RESULT_TOO_LARGE') return why
  try {
    encodeResult(value, kind)
    return why
  } catch (error) {
    return asFailure(error)
  }
}

/**
 * Calls the function with the items from `at` to before `to`, and adds the results. Stops at the first result that has to
 * be awaited, and returns it, and when the results are full.
 */
function callItems(
  callItem: (item: unknown) => unknown,
  items: readonly unknown[],
  at: number,
  to: number,
  results: Results,
): PromiseLike<unknown> | undefined {
  for (; at < to && !results.areFull(); at++) {
    const result = callItem(items[at])
    if (isThenable(result)) return result
    results.add(result)
  }
  return undefined
}

/** How the function is called with an item of a chunk. */
function itemCaller(call: UserFunction, { args, kwargs }: Bound, spread: boolean): (item: unknown) => unknown {
  if (spread) return (item) => call(...args, ...spreadItem(item), ...kwargs)
  if (args.length + kwargs.length > 0) return (item) => call(...args, item, ...kwargs)
  return (item) => call(item)
}

function spreadItem(item: unknown): readonly unknown[] {
  if (Array.isArray(item)) return item
  throw new Failure('BAD_REQUEST', `an item of a starmap is ${described(item)}; it must be an array of arguments`)
}

/** How long items of a chunk may run one after another before the worker reads commands, in milliseconds. */
const LISTEN_EVERY_MS = 5

/** How often the clock is read, in milliseconds: reading it for each item would cost more than the smallest functions. */
const CLOCK_EVERY_MS = 1

/** The most items between two readings of the clock. The next items may be slower than the last ones. */
const MAX_STRIDE = 16

/** When a chunk pauses, so that the worker can read commands and report progress. */
class Pauses {
  #pausedAt = performance.now()
  #readAt = this.#pausedAt
  #item = 0
  /** How many items to execute until the next isDue: as many as take CLOCK_EVERY_MS, at the pace of the last ones. */
  stride = 1

  /** Whether to pause now. @param item the number of items that have ended. */
  isDue(item: number): boolean {
    const now = performance.now()
    const stride = Math.floor(((item - this.#item) * CLOCK_EVERY_MS) / (now - this.#readAt))
    this.stride = Math.max(1, Math.min(MAX_STRIDE, stride))
    this.#readAt = now
    this.#item = item
    if (now - this.#pausedAt <= LISTEN_EVERY_MS) return false
    this.#pausedAt = now
    return true
  }
}

/** The arguments of a call, or of each item of a chunk. */
interface Bound {
  readonly args: readonly unknown[]
  /** One object, or nothing. */
  readonly kwargs: readonly unknown[]
  /** The kind of the first payload; undefined if there is none. */
  readonly kind: Kind | undefined
}

function decodeBound(run: Run, ownArgs: readonly Uint8Array[]): Bound {
  let kind: Kind | undefined
  const args: unknown[] = []
  for (const list of [run.args, ownArgs]) {
    for (const arg of list) {
      const part = decodePart(arg, `argument ${args.length + 1}`)
      kind ??= part.kind
      args.push(part.value)
    }
  }
  if (!run.kwargs) return { args, kwargs: [], kind }
  const kwargs = decodePart(run.kwargs, 'kwargs')
  kind ??= kwargs.kind
  const { value } = kwargs
  if (
    typeof value !== 'object' ||
    value === null ||
    Array.isArray(value) ||
    Object.getPrototypeOf(value) !== Object.prototype
  ) {
    throw new Failure('BAD_REQUEST', `kwargs hold ${described(value)}; they must hold an object`)
  }
  return { args, kwargs: Object.keys(value).length > 0 ? [value] : [], kind }
}

/** Decodes a payload. @throws Failure PAYLOAD_DECODE_FAILED that names the part of the request. */
export function decodePart(payload: Uint8Array, part: string): { kind: Kind; value: unknown } {
  try {
    return decodePayload(payload)
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error
    throw new Failure('PAYLOAD_DECODE_FAILED', `${part} cannot be decoded: ${error.message}`)
  }
}

function encodeResult(result: unknown, kind: Kind): Uint8Array {
  try {
    return encodePayload(result, kind)
  } catch (error) {
    if (!(error instanceof EncodeError)) throw error
    throw new Failure('RESULT_ENCODE_FAILED', `the result cannot be sent: ${error.message}`)
  }
}

function replyKind(asked: number, otherwise: Kind): Kind {
  switch (asked) {
    case PayloadKind.PAYLOAD_KIND_UNSPECIFIED:
      return otherwise
    case PayloadKind.PAYLOAD_KIND_JSON:
      return 'json'
    case PayloadKind.PAYLOAD_KIND_CBOR:
      return 'cbor'
    case PayloadKind.PAYLOAD_KIND_RAW:
      return 'raw'
    default:
      throw new Failure('BAD_REQUEST', `reply_kind is ${asked}; it must be 0 to 3, see farpool.v1.PayloadKind`)
  }
}

const isThenable = (value: unknown): value is PromiseLike<unknown> =>
  (typeof value === 'object' || typeof value === 'function') &&
  value !== null &&
  'then' in value &&
  typeof value.then === 'function'
