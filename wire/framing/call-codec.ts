/**
 * The messages of the stream of calls, CallRequest and CallResponse. CallItem and CallOutcome, of which there is one for
 * each call, are written and read by hand (decision 0002). Generated code does the rest: the common fields of a group, a
 * session and failures. Payloads stay encoded: they are views on the received message.
 */

import {
  CallGroup,
  type CallItem,
  type CallRequest,
  ItemFailure,
  Session,
} from '../../proto/gen/farpool/routing/v1/routing.js'
import { OnError } from '../../proto/gen/farpool/v1/pool_service.js'
import { MAX_FIELDS } from '../protocol.js'
import {
  checkFields,
  decodeStrictly,
  ProtoReader,
  ProtoWriter,
  type Shape,
  sizeOfField,
  sizeOfNumber,
} from './protobuf.js'

// The protobuf tags of the fields that are written and read by hand: field number * 8 + wire type.
const REQUEST_GROUPS = 0x0a
const REQUEST_CANCELLED = 0x10
const REQUEST_CANCELLED_PACKED = 0x12
const REQUEST_SESSION = 0x1a
const REQUEST_RECEIVED = 0x20
const REQUEST_ABANDON = 0x28
const REQUEST_LAST = 0x30
const GROUP_CALLS = 0x52
const ITEM_ID = 0x08
const ITEM_ARGS = 0x12
const ITEM_CHUNK = 0x1a
const RESPONSE_OUTCOMES = 0x0a
const RESPONSE_RECEIVED = 0x10
const RESPONSE_MAX_MESSAGE_BYTES = 0x18
const OUTCOME_ID = 0x08
const OUTCOME_PAYLOAD = 0x12
const OUTCOME_FAILURES = 0x1a

/** The fields that all calls of a group share. */
export type GroupHead = Omit<CallGroup, 'calls'>

/** The arguments of a group, or of a call, that has none of its own. */
export const NO_ARGS: readonly Uint8Array[] = []

/** A call, with a deadline in Unix time instead of a timeout; undefined for no limit. */
type CallFields = Omit<GroupHead, 'args' | 'spread' | 'onError' | 'timeoutMs' | 'allowPartial'> & {
  readonly deadline: number | undefined
}

/** The head of the group that a call travels in. */
export const headOf = (call: CallFields, args: readonly Uint8Array[]): GroupHead => ({
  pool: call.pool,
  function: call.function,
  args: args as Uint8Array[],
  kwargs: call.kwargs,
  replyKind: call.replyKind,
  retries: call.retries,
  queueTimeoutMs: call.queueTimeoutMs,
  runTimeoutMs: call.runTimeoutMs,
  spread: false,
  onError: OnError.ON_ERROR_UNSPECIFIED,
  timeoutMs: call.deadline === undefined ? 0 : Math.max(1, Math.ceil(call.deadline - Date.now())),
  allowPartial: false,
})

/** Whether calls with these heads can travel in one group. Bound values are compared by identity. */
export const isSameHead = (a: GroupHead, b: GroupHead): boolean =>
  a === b ||
  (a.function === b.function &&
    a.pool === b.pool &&
    a.args.length === 0 &&
    b.args.length === 0 &&
    a.kwargs === b.kwargs &&
    a.replyKind === b.replyKind &&
    a.retries === b.retries &&
    a.queueTimeoutMs === b.queueTimeoutMs &&
    a.runTimeoutMs === b.runTimeoutMs &&
    a.spread === b.spread &&
    a.onError === b.onError &&
    a.timeoutMs === b.timeoutMs &&
    a.allowPartial === b.allowPartial)

/** The most bytes of the id of a cancelled call: a tag and a varint. */
const MAX_CANCELLED_BYTES = 11

/** The number of fields of a group, without its arguments and its calls. */
const GROUP_HEAD_FIELDS = 13

/** Writes a CallRequest: `begin` a group, `add` its calls, `begin` the next group, and `finish`. */
export class CallRequestWriter {
  /** Complete groups. */
  readonly #pieces: Uint8Array[] = []
  /** The calls of the current group. */
  readonly #items = new ProtoWriter()
  readonly #cancelled: number[] = []
  #head: { readonly fields: GroupHead; readonly bytes: Uint8Array } | undefined
  #bytes = 0
  #calls = 0
  #fields = 0

  /** The number of calls so far. */
  get calls(): number {
    return this.#calls
  }

  /** The approximate number of fields so far, with those of nested messages. */
  get fields(): number {
    return this.#fields
  }

  /** At most how many bytes the message has so far. */
  get length(): number {
    const head = this.#head ? sizeOfField(this.#head.bytes.length + this.#items.length) : 0
    return this.#bytes + head + MAX_CANCELLED_BYTES * this.#cancelled.length
  }

  /** The head of the current group. */
  get head(): GroupHead | undefined {
    return this.#head?.fields
  }

  /** Begins a group. */
  begin(head: GroupHead): void {
    this.#endGroup()
    this.#fields += GROUP_HEAD_FIELDS + head.args.length
    this.#head = { fields: head, bytes: CallGroup.encode({ ...head, calls: [] }).finish() }
  }

  /** Adds a call to the current group. */
  add(id: number, args: readonly Uint8Array[], chunk: Uint8Array | undefined): void {
    let size = sizeOfNumber(id)
    for (const arg of args) size += sizeOfField(arg.length)
    if (chunk) size += sizeOfField(chunk.length)
    this.#calls++
    this.#fields += 3 + args.length
    this.#items.head(GROUP_CALLS, size)
    this.#items.number(ITEM_ID, id)
    for (const arg of args) this.#items.bytes(ITEM_ARGS, arg)
    if (chunk) this.#items.bytes(ITEM_CHUNK, chunk)
  }

  /** Adds the id of a call that is cancelled. */
  cancel(id: number): void {
    this.#cancelled.push(id)
  }

  /** The message. The writer cannot be used after it. */
  finish(): Buffer {
    this.#endGroup()
    for (const id of this.#cancelled) this.#items.number(REQUEST_CANCELLED, id)
    this.#pieces.push(...this.#items.takePieces().pieces)
    return this.#pieces.length === 1 ? (this.#pieces[0] as Buffer) : Buffer.concat(this.#pieces)
  }

  #endGroup(): void {
    if (!this.#head) return
    const head = this.#head.bytes
    const bytes = head.length + this.#items.length
    const items = this.#items.takePieces().pieces
    this.#items.head(REQUEST_GROUPS, bytes)
    this.#pieces.push(this.#items.take(), head, ...items)
    this.#bytes += sizeOfField(bytes)
    this.#head = undefined
  }
}

/** Fields to count in a CallRequest: groups, with their calls and the arguments of these; and cancelled ids. */
const CALL_REQUEST: Shape = { 1: { 10: {} }, 2: 'packed' }

/** Decodes a CallRequest as strictly as decodeStrictly does. @throws Error with the reason, or if it has more than MAX_FIELDS fields. */
export function decodeCallRequest(bytes: Uint8Array): CallRequest {
  checkFields(bytes, CALL_REQUEST, MAX_FIELDS)
  const reader = new ProtoReader(bytes)
  const request: CallRequest = {
    groups: [],
    cancelled: [],
    session: undefined,
    received: 0,
    abandon: false,
    last: false,
  }
  while (reader.more) {
    const tag = reader.tag()
    if (tag === REQUEST_GROUPS) request.groups.push(decodeGroup(reader.bytes()))
    else if (tag === REQUEST_CANCELLED) request.cancelled.push(reader.varint())
    else if (tag === REQUEST_CANCELLED_PACKED) {
      const ids = reader.message()
      while (ids.more) request.cancelled.push(ids.varint())
    } else if (tag === REQUEST_SESSION) request.session = decodeStrictly(Session, reader.bytes())
    else if (tag === REQUEST_RECEIVED) request.received = reader.varint()
    else if (tag === REQUEST_ABANDON) request.abandon = reader.varint() !== 0
    else if (tag === REQUEST_LAST) request.last = reader.varint() !== 0
    else reader.skip(tag)
  }
  return request
}

/** Reads the calls of a group. The bytes between them are collected in `head`, which generated code decodes. */
function decodeGroup(bytes: Uint8Array): CallGroup {
  const calls: CallItem[] = []
  const reader = new ProtoReader(bytes)
  const head = new ProtoWriter(64)
  let headAt = 0
  while (reader.more) {
    const at = reader.position
    const tag = reader.tag()
    if (tag !== GROUP_CALLS) {
      reader.skip(tag)
      continue
    }
    head.raw(bytes.subarray(headAt, at))
    calls.push(decodeItem(reader.message()))
    headAt = reader.position
  }
  head.raw(bytes.subarray(headAt))
  return { ...decodeStrictly(CallGroup, head.take()), calls }
}

function decodeItem(reader: ProtoReader): CallItem {
  const item: CallItem = { id: 0, args: [], chunk: undefined }
  while (reader.more) {
    const tag = reader.tag()
    if (tag === ITEM_ID) item.id = reader.varint()
    else if (tag === ITEM_ARGS) item.args.push(reader.bytes())
    else if (tag === ITEM_CHUNK) item.chunk = reader.bytes()
    else reader.skip(tag)
  }
  return item
}

/** Appends the outcome of a call to a CallResponse. */
export function writeOutcome(
  writer: ProtoWriter,
  id: number,
  payload: Uint8Array | undefined,
  failures: readonly ItemFailure[],
): void {
  const encoded = failures.map((failure) => ItemFailure.encode(failure).finish())
  let size = sizeOfNumber(id)
  if (payload) size += sizeOfField(payload.length)
  for (const failure of encoded) size += sizeOfField(failure.length)
  writer.head(RESPONSE_OUTCOMES, size)
  writer.number(OUTCOME_ID, id)
  if (payload) writer.bytes(OUTCOME_PAYLOAD, payload)
  for (const failure of encoded) writer.bytes(OUTCOME_FAILURES, failure)
}

/** Appends to a CallResponse how many of the client's messages have been received. */
export function writeReceived(writer: ProtoWriter, received: number): void {
  writer.number(RESPONSE_RECEIVED, received)
}

/** Appends to a CallResponse the size of the largest message that the server accepts, in bytes. */
export function writeMaxMessageBytes(writer: ProtoWriter, bytes: number): void {
  writer.number(RESPONSE_MAX_MESSAGE_BYTES, bytes)
}

const NO_FAILURES: readonly ItemFailure[] = []

/**
 * Reads a CallResponse. Calls `visit` for each outcome, in order, and returns how many of the client's messages the server
 * has received, 0 if it does not say.
 * @throws Error with the reason.
 */
export function readOutcomes(
  bytes: Uint8Array,
  visit: (id: number, payload: Uint8Array | undefined, failures: readonly ItemFailure[]) => void,
): number {
  const reader = new ProtoReader(bytes)
  let received = 0
  while (reader.more) {
    const tag = reader.tag()
    if (tag !== RESPONSE_OUTCOMES) {
      if (tag === RESPONSE_RECEIVED) received = reader.varint()
      else reader.skip(tag)
      continue
    }
    const outcome = reader.message()
    let id = 0
    let payload: Uint8Array | undefined
    let failures: readonly ItemFailure[] = NO_FAILURES
    while (outcome.more) {
      const field = outcome.tag()
      if (field === OUTCOME_ID) id = outcome.varint()
      else if (field === OUTCOME_PAYLOAD) payload = outcome.bytes()
      else if (field === OUTCOME_FAILURES) failures = [...failures, ItemFailure.decode(outcome.bytes())]
      else outcome.skip(field)
    }
    visit(id, payload, failures)
  }
  return received
}
