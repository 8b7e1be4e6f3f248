/**
 * The execution of one task: decode the arguments, call the function, encode the result.
 *
 *     invoke ─▶ invokeOnce    a task with arguments of its own: one call
 *            ─▶ invokeChunk   a task with a chunk: one call for each item, and a failure for each item that failed
 */

import { PayloadKind } from '../proto/gen/farpool/v1/payload.js'
import type { Done, Run, Task } from '../proto/gen/farpool/worker/v1/worker.js'
import { asFailure, Failure, failureToStatus } from '../wire/failure.js'
import { decodePayload, encodePayload, type Kind, kindOf } from '../wire/values/payload.js'
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
  /** A chunk stops when its results have about this many bytes: the items behind them are not run. */
  readonly fullBytes: number
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

/** An item that failed, by its index in the chunk. */
interface FailedItem {
  readonly item: number
  readonly failure: Failure
}

async function invokeChunk(invocation: Invocation, chunk: Uint8Array): Promise<Done> {
  const { call, run, task, running, fullBytes } = invocation
  const bound = decodeBound(run, [])
  const { kind: chunkKind, value } = decodePart(chunk, 'the chunk')
  const items = chunkKind === 'raw' ? [value] : value
  if (!Array.isArray(items)) {
    throw new Failure('BAD_REQUEST', `a chunk holds ${described(items)}; it must hold an array of items`)
  }
  const kind = replyKind(run.replyKind, chunkKind)
  const results = new Results(fullBytes)
  const failures: FailedItem[] = []
  const callItem = itemCaller(call, bound, run.spread)
  const pauses = new Pauses()
  // Each item before `item` has either a result or a failure.
  for (let item = 0; item < items.length; ) {
    try {
      const pending = callItems(callItem, items, item, Math.min(items.length, item + pauses.stride), results)
      if (pending !== undefined) results.add(await pending)
    } catch (error) {
      failures.push({
        item: results.values.length + failures.length,
        failure: functionFailure(error, description(invocation)),
      })
    }
    item = results.values.length + failures.length
    if (results.areFull || running.isAborted || (run.failFast && failures.length > 0)) break
    if (!pauses.isDue(item)) continue
    if (item < items.length) running.progress(item)
    await new Promise(setImmediate)
  }
  const ran = results.values.length + failures.length
  // As for one call: JSON has no undefined.
  const values = kind === 'json' ? results.values.map((value) => value ?? null) : results.values
  const payload = encodeResults(values, failures, kind)
  if (results.areFull) for (let item = ran; item < items.length; item++) failures.push({ item, failure: CHUNK_FULL })
  return {
    task: task.task,
    payload,
    failures: failures
      .sort((a, b) => a.item - b.item)
      .map(({ item, failure }) => ({ item, status: failureToStatus(failure) })),
    status: undefined,
    runMs: 0,
  }
}

const CHUNK_FULL = new Failure(
  'CHUNK_FULL',
  'the item was not run: the results before it fill a message; send it in another chunk',
)

/** The results of the items of a chunk. */
class Results {
  readonly values: unknown[] = []
  #bytes = 0

  constructor(private readonly fullBytes: number) {}

  get areFull(): boolean {
    return this.#bytes >= this.fullBytes
  }

  add(value: unknown): void {
    this.values.push(value)
    if (typeof value !== 'number') this.#bytes += roughBytes(value)
  }
}

/** The bytes of the texts and byte arrays in a value, two levels deep: what a large result usually consists of. */
function roughBytes(value: unknown, depth = 2): number {
  if (typeof value === 'string') return value.length
  if (typeof value !== 'object' || value === null) return 0
  if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) return value.byteLength
  if (depth === 0) return 0
  let bytes = 0
  if (Array.isArray(value)) for (const part of value) bytes += roughBytes(part, depth - 1)
  else if (isPlain(value)) for (const name in value) bytes += roughBytes(value[name], depth - 1)
  return bytes
}

/** A getter may run any code. */
const isPlain = (value: object): value is Record<string, unknown> => Object.getPrototypeOf(value) === Object.prototype

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
  for (; at < to && !results.areFull; at++) {
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

/** All results as one payload. A result that cannot be encoded becomes a failure of its item, and the others are sent. */
function encodeResults(results: unknown[], failures: FailedItem[], kind: Kind): Uint8Array {
  if (kind === 'raw') {
    if (results.length === 1) return encodeResult(results[0], kind)
    if (failures.length > 0) return encodePayload(new Uint8Array(), kind)
    throw new Failure(
      'RESULT_ENCODE_FAILED',
      'a raw payload carries one result; send chunks of one item, or ask for cbor',
    )
  }
  try {
    return encodePayload(results, kind)
  } catch {
    const failed = new Set(failures.map(({ item }) => item))
    let item = -1
    const kept = results.filter((result) => {
      do item++
      while (failed.has(item))
      try {
        encodeResult(result, kind)
        // In an array it is one level deeper.
        encodeResult([result], kind)
        return true
      } catch (error) {
        // A Failure: encodeResult throws no other error.
        failures.push({ item, failure: asFailure(error) })
        return false
      }
    })
    return encodePayload(kept, kind)
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
