import { type Done, FromWorker, Run, type Task, ToWorker } from '../../proto/gen/farpool/worker/v1/worker.js'
import { MAX_FRAME_BYTES } from '../protocol.js'
import { ChunkAssembler, LARGE_BYTES } from './chunk-assembler.js'
import { ProtoReader, type ProtoWriter, sizeOfField, sizeOfNumber } from './protobuf.js'

/**
 * The machine's monotonic clock, in milliseconds: both ends of a worker's socket compare times. The same in every
 * process, because each reads it whole: a difference to another clock, taken once, is as wrong as that moment was slow.
 */
export const monotonic = (): number => Number(process.hrtime.bigint()) / 1e6

/**
 * Frames between server and worker: four bytes of length, big-endian, then a message of worker.proto. What there is one
 * of for each task, Task and Done, is written and read by hand. Payloads are slices of the received frame.
 */
export type ToWorkerFrame = NonNullable<ToWorker['kind']>
export type FromWorkerFrame = NonNullable<FromWorker['kind']>

const HEADER_BYTES = 4

const TO_WORKER_RUN = 0x12
const RUN_TASKS = 0x42
const TASK_TASK = 0x08
const TASK_ATTEMPT = 0x10
const TASK_ARGS = 0x1a
const TASK_CHUNK = 0x22
const FROM_WORKER_DONE = 0x22
const DONE_TASK = 0x08
const DONE_PAYLOAD = 0x12
const DONE_RUN_MS = 0x2d
const RUN_MS_BYTES = 5

/** Appends a frame. */
export function writeToWorker(writer: ProtoWriter, kind: ToWorkerFrame): void {
  if (kind.$case === 'run') writeRun(writer, kind.value)
  else writeFrame(writer, ToWorker.encode({ kind }).finish())
}

/** Appends a frame. */
export function writeFromWorker(writer: ProtoWriter, kind: FromWorkerFrame): void {
  const done = kind.$case === 'done' ? kind.value : undefined
  if (done?.payload && done.failures.length === 0 && !done.status) writeResult(writer, done, done.payload)
  else writeFrame(writer, FromWorker.encode({ kind }).finish())
}

function writeFrame(writer: ProtoWriter, message: Uint8Array): void {
  writer.uint32BE(checked(message.length))
  writer.raw(message)
}

function writeRun(writer: ProtoWriter, run: Run): void {
  const head = Run.encode({ ...run, tasks: [] }).finish()
  let size = head.length
  for (const task of run.tasks) size += sizeOfField(sizeOfTask(task))
  writer.uint32BE(checked(sizeOfField(size)))
  writer.head(TO_WORKER_RUN, size)
  writer.raw(head)
  for (const task of run.tasks) {
    writer.head(RUN_TASKS, sizeOfTask(task))
    writer.number(TASK_TASK, task.task)
    writer.number(TASK_ATTEMPT, task.attempt)
    for (const arg of task.args) writer.bytes(TASK_ARGS, arg)
    if (task.chunk) writer.bytes(TASK_CHUNK, task.chunk)
  }
}

function sizeOfTask({ task, attempt, args, chunk }: Task): number {
  let size = sizeOfNumber(task) + sizeOfNumber(attempt)
  for (const arg of args) size += sizeOfField(arg.length)
  return chunk ? size + sizeOfField(chunk.length) : size
}

function writeResult(writer: ProtoWriter, { task, runMs }: Done, payload: Uint8Array): void {
  const size = sizeOfNumber(task) + sizeOfField(payload.length) + (runMs === 0 ? 0 : RUN_MS_BYTES)
  writer.uint32BE(checked(sizeOfField(size)))
  writer.head(FROM_WORKER_DONE, size)
  writer.number(DONE_TASK, task)
  writer.bytes(DONE_PAYLOAD, payload)
  writer.float(DONE_RUN_MS, runMs)
}

function checked(length: number): number {
  if (length > MAX_FRAME_BYTES) throw new RangeError(`a frame of ${length} bytes is too large`)
  return length
}

/** A frame of a kind that this end does not know (a newer peer) is undefined. */
export function decodeToWorker(frame: Uint8Array): ToWorkerFrame | undefined {
  if (frame[0] !== TO_WORKER_RUN) return ToWorker.decode(frame).kind
  const message = new ProtoReader(frame, 1).bytes()
  const reader = new ProtoReader(message)
  const tasks: Task[] = []
  let head = message.length
  while (reader.more) {
    const at = reader.position
    const tag = reader.tag()
    // Tasks come last, where this code has written them.
    if (tag === RUN_TASKS) {
      if (tasks.length === 0) head = at
      tasks.push(decodeTask(reader.message()))
    } else if (tasks.length > 0) return ToWorker.decode(frame).kind
    else reader.skip(tag)
  }
  return { $case: 'run', value: { ...Run.decode(message.subarray(0, head)), tasks } }
}

function decodeTask(reader: ProtoReader): Task {
  const task: Task = { task: 0, attempt: 0, args: [], chunk: undefined }
  while (reader.more) {
    const tag = reader.tag()
    if (tag === TASK_TASK) task.task = reader.varint()
    else if (tag === TASK_ATTEMPT) task.attempt = reader.varint()
    else if (tag === TASK_ARGS) task.args.push(reader.bytes())
    else if (tag === TASK_CHUNK) task.chunk = reader.bytes()
    else reader.skip(tag)
  }
  return task
}

/** A frame of a kind that this end does not know (a newer peer) is undefined. */
export function decodeFromWorker(frame: Uint8Array): FromWorkerFrame | undefined {
  return decodeResult(frame) ?? FromWorker.decode(frame).kind
}

/** A Done that has a task, a payload, and nothing else but a time; undefined for every other frame. */
function decodeResult(frame: Uint8Array): FromWorkerFrame | undefined {
  if (frame[0] !== FROM_WORKER_DONE) return undefined
  const reader = new ProtoReader(frame, 1).message()
  let task = 0
  let payload: Uint8Array | undefined
  let runMs = 0
  while (reader.more) {
    const tag = reader.tag()
    if (tag === DONE_TASK) task = reader.varint()
    else if (tag === DONE_PAYLOAD) payload = reader.bytes()
    else if (tag === DONE_RUN_MS) runMs = reader.float()
    else return undefined
  }
  return { $case: 'done', value: { task, payload, failures: [], status: undefined, runMs } }
}

/** Cuts a byte stream into frames. Feed it what the socket reads; it calls back for each whole frame, in order. */
export class FrameReader {
  /** Pieces of a frame that is not whole yet. */
  #pieces: Uint8Array[] = []
  #bytes = 0
  /** Bytes that make the next step possible: a header, or the frame that the header announced. */
  #needed = HEADER_BYTES
  /** A large frame that is not whole yet. */
  #large: ChunkAssembler | undefined

  constructor(private readonly onFrame: (frame: Uint8Array) => void) {}

  push(piece: Uint8Array): void {
    if (this.#large) return this.#pushLarge(this.#large, piece)
    this.#pieces.push(piece)
    this.#bytes += piece.length
    if (this.#bytes < this.#needed) return
    const joined = this.#pieces.length === 1 ? piece : Buffer.concat(this.#pieces, this.#bytes)
    const rest = joined.subarray(this.#cut(joined))
    this.#pieces = rest.length > 0 ? [rest] : []
    this.#bytes = rest.length
    if (this.#needed < LARGE_BYTES) return
    this.#large = new ChunkAssembler(this.#needed)
    this.#large.add(rest)
    this.#pieces = []
    this.#bytes = 0
  }

  #pushLarge(large: ChunkAssembler, piece: Uint8Array): void {
    const rest = large.fill(piece)
    if (!rest) return
    this.#large = undefined
    this.#needed = HEADER_BYTES
    this.onFrame(large.take().subarray(HEADER_BYTES))
    if (rest.length > 0) this.push(rest)
  }

  /** Calls back for every whole frame of `bytes`; returns where the first that is not whole begins. */
  #cut(bytes: Uint8Array): number {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    let at = 0
    for (;;) {
      this.#needed = HEADER_BYTES
      if (bytes.length - at < HEADER_BYTES) return at
      const length = view.getUint32(at)
      if (length > MAX_FRAME_BYTES)
        throw new RangeError(`a frame of ${length} bytes is announced; at most ${MAX_FRAME_BYTES}`)
      this.#needed = HEADER_BYTES + length
      if (bytes.length - at < this.#needed) return at
      this.onFrame(bytes.subarray(at + HEADER_BYTES, at + this.#needed))
      at += this.#needed
    }
  }
}
