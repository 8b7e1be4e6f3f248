import { PayloadKind } from '../../proto/gen/farpool/v1/payload.js'
import type { Done, Run } from '../../proto/gen/farpool/worker/v1/worker.js'
import { DecodeError, EncodeError } from '../../wire/codec-errors.js'
import { Failure, failureToStatus } from '../../wire/failure.js'
import { decodePayload, encodePayload, type Kind } from '../../wire/payload.js'
import type { RunningTask } from './context.js'
import { functionFailure } from './describe.js'
import type { UserFunction } from './load.js'

/** Between the items of a chunk the worker listens for an abort, at the latest after so many milliseconds. */
const LISTEN_EVERY_MS = 5

/** Executes a task: decodes what came in, calls the function, encodes what it returned. Never throws. */
export async function invoke(call: UserFunction, run: Run, task: RunningTask, stacks: boolean): Promise<Done> {
  try {
    return run.chunk ? await invokeChunk(call, run, run.chunk, task, stacks) : await invokeOnce(call, run, stacks)
  } catch (error) {
    return failedDone(run.task, functionFailure(error, stacks))
  }
}

export const failedDone = (task: number, failure: Failure): Done => ({
  task,
  payload: undefined,
  failures: [],
  status: failureToStatus(failure),
})

async function invokeOnce(call: UserFunction, run: Run, stacks: boolean): Promise<Done> {
  const bound = decodeBound(run)
  const kind = replyKind(run.replyKind, bound.kind ?? 'json')
  let result: unknown
  try {
    result = call(...bound.args, ...bound.kwargs)
    if (isThenable(result)) result = await result
  } catch (error) {
    return failedDone(run.task, functionFailure(error, stacks))
  }
  return { task: run.task, payload: encodeResult(result, kind), failures: [], status: undefined }
}

async function invokeChunk(
  call: UserFunction,
  run: Run,
  chunk: Uint8Array,
  task: RunningTask,
  stacks: boolean,
): Promise<Done> {
  const bound = decodeBound(run)
  const { kind: chunkKind, value } = decodePart(chunk, 'the chunk')
  const items = chunkKind === 'raw' ? [value] : value
  if (!Array.isArray(items)) {
    throw new Failure('BAD_REQUEST', `a chunk holds ${typeName(items)}; it must hold an array of items`)
  }
  const kind = replyKind(run.replyKind, chunkKind)
  const results: unknown[] = []
  /** Which item each result came from; only needed once an item has failed. */
  const origins: number[] = []
  const failures: { item: number; failure: Failure }[] = []
  let listened = performance.now()
  for (let item = 0; item < items.length; item++) {
    if (task.aborted || (run.failFast && failures.length > 0)) break
    try {
      const args = run.spread ? spreadItem(items[item]) : [items[item]]
      let result = call(...bound.args, ...args, ...bound.kwargs)
      if (isThenable(result)) result = await result
      results.push(result)
      origins.push(item)
    } catch (error) {
      failures.push({ item, failure: functionFailure(error, stacks) })
    }
    if (performance.now() - listened > LISTEN_EVERY_MS) {
      await new Promise(setImmediate)
      listened = performance.now()
    }
  }
  const payload = encodeResults(results, origins, failures, kind)
  return {
    task: run.task,
    payload,
    failures: failures
      .sort((a, b) => a.item - b.item)
      .map(({ item, failure }) => ({ item, status: failureToStatus(failure) })),
    status: undefined,
  }
}

/** All results as one payload; where one of them cannot be encoded, that item fails and the others stay. */
function encodeResults(
  results: unknown[],
  origins: readonly number[],
  failures: { item: number; failure: Failure }[],
  kind: Kind,
): Uint8Array {
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
    const kept = results.filter((result, at) => {
      try {
        encodeResult(result, kind)
        return true
      } catch (error) {
        failures.push({ item: origins[at] ?? at, failure: functionFailure(error, false) })
        return false
      }
    })
    return encodePayload(kept, kind)
  }
}

function decodeBound(run: Run): { args: unknown[]; kwargs: unknown[]; kind: Kind | undefined } {
  let kind: Kind | undefined
  const args = run.args.map((arg, at) => {
    const part = decodePart(arg, `argument ${at + 1}`)
    kind ??= part.kind
    return part.value
  })
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
