import { PayloadKind } from '../proto/gen/farpool/v1/payload.js'
import type { Done, Run, Task } from '../proto/gen/farpool/worker/v1/worker.js'
import { Failure, failureToStatus } from '../wire/failure.js'
import { decodePayload, encodePayload, type Kind } from '../wire/values/payload.js'
import { DecodeError, EncodeError } from '../wire/values/value-errors.js'
import type { RunningTask } from './current-task.js'
import { functionFailure } from './describe-error.js'
import type { UserFunction } from './load-functions.js'

/** Between the items of a chunk the worker listens for an abort, at the latest after so many milliseconds. */
const LISTEN_EVERY_MS = 5

/** It reads the clock about so often, and after at most so many items: those that come next may be slower than the last. */
const LOOK_EVERY_MS = 1
const MAX_STRIDE = 16

/**
 * Executes a task: decodes what came in, calls the function, encodes what it returned. Never throws. Not a promise
 * where the function returns none: most do not, and short ones come by the ten thousand.
 */
export function invoke(
  call: UserFunction,
  run: Run,
  task: Task,
  running: RunningTask,
  stacks: boolean,
): Done | Promise<Done> {
  const fail = (error: unknown) => failedDone(task.task, functionFailure(error, stacks))
  try {
    if (task.chunk) return invokeChunk(call, run, task, task.chunk, running, stacks).catch(fail)
    const done = invokeOnce(call, run, task, stacks)
    return done instanceof Promise ? done.catch(fail) : done
  } catch (error) {
    return fail(error)
  }
}

export const failedDone = (task: number, failure: Failure): Done => ({
  task,
  payload: undefined,
  failures: [],
  status: failureToStatus(failure),
  runMs: 0,
})

function invokeOnce(call: UserFunction, run: Run, task: Task, stacks: boolean): Done | Promise<Done> {
  const bound = decodeBound(run, task.args)
  const kind = replyKind(run.replyKind, bound.kind ?? 'json')
  const done = (result: unknown): Done => ({
    task: task.task,
    payload: encodeResult(result, kind),
    failures: [],
    status: undefined,
    runMs: 0,
  })
  let result: unknown
  try {
    result = call(...bound.args, ...bound.kwargs)
    if (!isThenable(result)) return done(result)
  } catch (error) {
    return failedDone(task.task, functionFailure(error, stacks))
  }
  return Promise.resolve(result).then(done)
}

async function invokeChunk(
  call: UserFunction,
  run: Run,
  task: Task,
  chunk: Uint8Array,
  running: RunningTask,
  stacks: boolean,
): Promise<Done> {
  const bound = decodeBound(run, [])
  const { kind: chunkKind, value } = decodePart(chunk, 'the chunk')
  const items = chunkKind === 'raw' ? [value] : value
  if (!Array.isArray(items)) {
    throw new Failure('BAD_REQUEST', `a chunk holds ${typeName(items)}; it must hold an array of items`)
  }
  const kind = replyKind(run.replyKind, chunkKind)
  const results: unknown[] = []
  const failures: { item: number; failure: Failure }[] = []
  const callItem = itemCaller(call, bound, run.spread)
  const clock = new Listening()
  for (let item = 0; item < items.length; ) {
    const pending: { result?: unknown } = {}
    const to = Math.min(items.length, item + clock.stride)
    try {
      item = callItems(callItem, items, item, to, results, pending)
      if ('result' in pending) {
        results.push(await pending.result)
        item++
      }
    } catch (error) {
      item = results.length + failures.length
      failures.push({ item, failure: functionFailure(error, stacks) })
      item++
    }
    if (running.aborted || (run.failFast && failures.length > 0)) break
    if (!clock.isDue(item)) continue
    if (item < items.length) running.progress(item)
    await new Promise(setImmediate)
  }
  const payload = encodeResults(results, failures, kind)
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

/**
 * Calls for items from `at` to before `to`, as long as results come at once: one that has to be awaited is left in
 * `pending`. Gives the first item that has no result; where it throws, that is the one behind the results.
 */
function callItems(
  callItem: (item: unknown) => unknown,
  items: readonly unknown[],
  at: number,
  to: number,
  results: unknown[],
  pending: { result?: unknown },
): number {
  for (; at < to; at++) {
    const result = callItem(items[at])
    if (isThenable(result)) {
      pending.result = result
      return at
    }
    results.push(result)
  }
  return at
}

/** How the function is called with an item. */
function itemCaller(call: UserFunction, { args, kwargs }: Bound, spread: boolean): (item: unknown) => unknown {
  if (spread) return (item) => call(...args, ...spreadItem(item), ...kwargs)
  if (args.length + kwargs.length > 0) return (item) => call(...args, item, ...kwargs)
  return (item) => call(item)
}

/** When to listen. The clock is not read for every item: that alone would cost more than the smallest functions do. */
class Listening {
  #listened = performance.now()
  #looked = this.#listened
  #item = 0
  /** How many items until the clock is read again: as many as end in LOOK_EVERY_MS, if they are like the last ones. */
  stride = 1

  /** @param item the first that has not ended. */
  isDue(item: number): boolean {
    const now = performance.now()
    const pace = ((item - this.#item) * LOOK_EVERY_MS) / (now - this.#looked)
    this.stride = Math.max(1, Math.min(MAX_STRIDE, Math.floor(pace)))
    this.#looked = now
    this.#item = item
    if (now - this.#listened <= LISTEN_EVERY_MS) return false
    this.#listened = now
    return true
  }
}

/** All results as one payload; where one of them cannot be encoded, that item fails and the others stay. */
function encodeResults(results: unknown[], failures: { item: number; failure: Failure }[], kind: Kind): Uint8Array {
  if (kind === 'raw') {
    if (results.length === 1) return encodeResult(results[0], kind)
    if (failures.length > 0) return encodePayload(new Uint8Array(), kind)
    throw new Failure(
      'RESULT_ENCODE_FAILED',
      'a raw payload carries one result; send one item in a chunk, or ask for cbor',
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
        return true
      } catch (error) {
        failures.push({ item, failure: functionFailure(error, false) })
        return false
      }
    })
    return encodePayload(kept, kind)
  }
}

/** What a function is called with besides an item. */
interface Bound {
  readonly args: readonly unknown[]
  /** One object, or none. */
  readonly kwargs: readonly unknown[]
  /** The kind of the first of them. */
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
    throw new Failure('BAD_REQUEST', `kwargs hold ${typeName(value)}; they must hold an object`)
  }
  return { args, kwargs: Object.keys(value).length > 0 ? [value] : [], kind }
}

/** A payload's value. @throws Failure (PAYLOAD_DECODE_FAILED) that names the part. */
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

function spreadItem(item: unknown): readonly unknown[] {
  if (Array.isArray(item)) return item
  throw new Failure('BAD_REQUEST', `an item of a starmap is ${typeName(item)}; it must be an array of arguments`)
}

const isThenable = (value: unknown): value is PromiseLike<unknown> =>
  (typeof value === 'object' || typeof value === 'function') &&
  value !== null &&
  'then' in value &&
  typeof value.then === 'function'

const typeName = (value: unknown): string =>
  value === null
    ? 'null'
    : Array.isArray(value)
      ? 'an array'
      : typeof value === 'object'
        ? 'an object'
        : `a ${typeof value}`
