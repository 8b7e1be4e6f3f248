/**
 * The frames between the server and a worker. A frame is one message of proto/farpool/worker/v1/worker.proto:
 *
 *     ┌────────────────────┬───────────────────────┐
 *     │ length: 4 bytes,   │ ToWorker (a command)  │
 *     │ big-endian         │ FromWorker (a report) │
 *     └────────────────────┴───────────────────────┘
 *
 * Where the launcher has given the worker a shared file, a large frame may be in that file. The highest bit of the length
 * then is set, and instead of the message the socket carries its place: 4 bytes, big-endian.
 *
 * Generated code writes and reads most messages. Task, Started and Done, of which there is one for each task, are written
 * and read by hand (decision 0002). The fields that the tasks of a Run share rarely change from one Run to the next: both
 * ends keep the last ones. Payloads stay encoded: they are views on the received frame.
 */

import { type Done, FromWorker, Run, type Task, ToWorker } from '../../proto/gen/farpool/worker/v1/worker.js'
import { MAX_FRAME_BYTES } from '../protocol.js'
import { ChunkAssembler, LARGE_BYTES } from './chunk-assembler.js'
import { ProtoReader, ProtoWriter, sizeOfField, sizeOfNumber } from './protobuf.js'
import { SHARED_MIN_BYTES, type SharedFileReader, type SharedFileWriter } from './shared-file.js'

/** A command of the server. */
export type ToWorkerFrame = NonNullable<ToWorker['kind']>

/** A report of a worker. */
export type FromWorkerFrame = NonNullable<FromWorker['kind']>

const HEADER_BYTES = 4

/** In a header: the frame is in the shared file. */
const IN_FILE = 2 ** 31
const PLACE_BYTES = 4

// The protobuf tags of the fields that are written and read by hand: field number * 8 + wire type.
const TO_WORKER_RUN = 0x12
const RUN_BEGIN_BY = 0x39
const RUN_TASKS = 0x42
const TASK_TASK = 0x08
const TASK_ATTEMPT = 0x10
const TASK_ARGS = 0x1a
const TASK_CHUNK = 0x22
const FROM_WORKER_STARTED = 0x1a
const FROM_WORKER_DONE = 0x22
const STARTED_TASK = 0x08
const DONE_TASK = 0x08
const DONE_PAYLOAD = 0x12
const DONE_RUN_MS = 0x2d

/**
 * Appends the frame of a command.
 * @param file for large frames, if there is one. @throws RangeError for a frame of more than MAX_FRAME_BYTES.
 */
export function writeToWorker(writer: ProtoWriter, command: ToWorkerFrame, file?: SharedFileWriter): void {
  if (command.$case === 'run') writeRun(writer, command.value, file)
  else writeFrame(writer, ToWorker.encode({ kind: command }).finish())
}

/** Appends the frame of a report; as `writeToWorker`. */
export function writeFromWorker(writer: ProtoWriter, report: FromWorkerFrame, file?: SharedFileWriter): void {
  if (report.$case === 'started') return writeStarted(writer, report.value.task)
  const done = report.$case === 'done' ? report.value : undefined
  if (done?.payload && done.failures.length === 0 && !done.status) writeResult(writer, done, done.payload, file)
  else writeFrame(writer, FromWorker.encode({ kind: report }).finish())
}

function writeFrame(writer: ProtoWriter, message: Uint8Array): void {
  writeHeader(writer, message.length)
  writer.raw(message)
}

function writeHeader(writer: ProtoWriter, length: number): void {
  if (length > MAX_FRAME_BYTES) throw new RangeError(`a frame has ${length} bytes; the limit is ${MAX_FRAME_BYTES}`)
  writer.uint32BE(length)
}

/** Writes a large frame to the file, and its place to the writer. If the file has no room, both go to the writer. */
function writeLarge(
  writer: ProtoWriter,
  length: number,
  file: SharedFileWriter | undefined,
  message: (writer: ProtoWriter) => void,
): void {
  if (!file || length < SHARED_MIN_BYTES) {
    writeHeader(writer, length)
    return message(writer)
  }
  const own = new ProtoWriter()
  message(own)
  const pieces = own.views()
  const place = file.put(pieces, length)
  if (place === undefined) {
    writeHeader(writer, length)
    for (const piece of pieces) writer.raw(piece)
  } else {
    writer.uint32BE(IN_FILE + length)
    writer.uint32BE(place)
  }
}

/** What the tasks of a Run share, without `begin_by`. */
type RunHead = Omit<Run, 'tasks' | 'beginBy'>

/** A longer head is not kept: its arguments would stay in memory. */
const KEEP_HEAD_BYTES = 256

/** The last head that was written, and its encoding. */
let lastWritten: { readonly head: RunHead; readonly bytes: Uint8Array } | undefined

/** Bound values are compared by identity. */
const isSameHead = (a: RunHead, b: RunHead): boolean =>
  a.function === b.function &&
  a.kwargs === b.kwargs &&
  (a.args === b.args || (a.args.length === 0 && b.args.length === 0)) &&
  a.replyKind === b.replyKind &&
  a.spread === b.spread &&
  a.failFast === b.failFast &&
  a.allowPartial === b.allowPartial

function encodeHead(run: Run): Uint8Array {
  if (lastWritten && isSameHead(lastWritten.head, run)) return lastWritten.bytes
  const bytes = Run.encode({ ...run, beginBy: 0, tasks: [] }).finish()
  if (bytes.length <= KEEP_HEAD_BYTES) lastWritten = { head: run, bytes }
  return bytes
}

/** A tag of one byte and eight bytes. */
const DOUBLE_FIELD_BYTES = 9

function writeRun(writer: ProtoWriter, run: Run, file: SharedFileWriter | undefined): void {
  const head = encodeHead(run)
  let size = head.length + (run.beginBy === 0 ? 0 : DOUBLE_FIELD_BYTES)
  for (const task of run.tasks) size += sizeOfField(sizeOfTask(task))
  writeLarge(writer, sizeOfField(size), file, (to) => writeRunMessage(to, run, head, size))
}

function writeRunMessage(writer: ProtoWriter, run: Run, head: Uint8Array, size: number): void {
  writer.head(TO_WORKER_RUN, size)
  writer.raw(head)
  writer.double(RUN_BEGIN_BY, run.beginBy)
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

function writeStarted(writer: ProtoWriter, task: number): void {
  const size = sizeOfNumber(task)
  writeHeader(writer, sizeOfField(size))
  writer.head(FROM_WORKER_STARTED, size)
  writer.number(STARTED_TASK, task)
}

/** The size of a float field: a tag of one byte and four bytes. */
const FLOAT_FIELD_BYTES = 5

function writeResult(
  writer: ProtoWriter,
  { task, runMs }: Done,
  payload: Uint8Array,
  file: SharedFileWriter | undefined,
): void {
  const size = sizeOfNumber(task) + sizeOfField(payload.length) + (runMs === 0 ? 0 : FLOAT_FIELD_BYTES)
  writeLarge(writer, sizeOfField(size), file, (to) => {
    to.head(FROM_WORKER_DONE, size)
    to.number(DONE_TASK, task)
    to.bytes(DONE_PAYLOAD, payload)
    to.float(DONE_RUN_MS, runMs)
  })
}

/** The last head that was read: its bytes, and its fields. */
let lastRead: { readonly bytes: Uint8Array; readonly head: Run } | undefined

/** The command in a frame without its header; undefined for a kind that only newer servers send. @throws Error */
export function decodeToWorker(frame: Uint8Array): ToWorkerFrame | undefined {
  if (frame[0] !== TO_WORKER_RUN) return ToWorker.decode(frame).kind
  const message = new ProtoReader(frame, 1).bytes()
  const known = lastRead && startsWith(message, lastRead.bytes) ? lastRead : undefined
  const run = (known && decodeTasks(message, known.bytes.length)) ?? decodeTasks(message, headLength(message))
  // writeRun puts begin_by and the tasks last. Another writer may not, and then generated code reads the frame.
  if (!run) return ToWorker.decode(frame).kind
  const head = known?.bytes.length === run.headLength ? known.head : decodeHead(message.subarray(0, run.headLength))
  return { $case: 'run', value: { ...head, beginBy: run.beginBy, tasks: run.tasks } }
}

const startsWith = (message: Uint8Array, head: Uint8Array): boolean => {
  if (message.length < head.length) return false
  for (let at = 0; at < head.length; at++) if (message[at] !== head[at]) return false
  return true
}

/** How many bytes come before begin_by and the tasks. */
function headLength(message: Uint8Array): number {
  const reader = new ProtoReader(message)
  while (reader.more) {
    const at = reader.position
    const tag = reader.tag()
    if (tag === RUN_BEGIN_BY || tag === RUN_TASKS) return at
    reader.skip(tag)
  }
  return message.length
}

function decodeHead(bytes: Uint8Array): Run {
  const keeps = bytes.length <= KEEP_HEAD_BYTES
  // A copy of its own: a view would keep everything that the socket has read with it.
  const own = keeps ? Uint8Array.from(bytes) : bytes
  const head = Run.decode(own)
  if (keeps) lastRead = { bytes: own, head }
  return head
}

/** begin_by and the tasks, which come after the head; undefined if anything else comes there. */
function decodeTasks(message: Uint8Array, headLength: number) {
  const reader = new ProtoReader(message, headLength)
  const tasks: Task[] = []
  let beginBy = 0
  while (reader.more) {
    const tag = reader.tag()
    if (tag === RUN_TASKS) tasks.push(decodeTask(reader.message()))
    else if (tag === RUN_BEGIN_BY && tasks.length === 0) beginBy = reader.double()
    else return undefined
  }
  return { headLength, beginBy, tasks }
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

/** The report in a frame without its header; undefined for a kind that only newer workers send. @throws Error */
export function decodeFromWorker(frame: Uint8Array): FromWorkerFrame | undefined {
  return decodeStarted(frame) ?? decodeResult(frame) ?? FromWorker.decode(frame).kind
}

/** A Started, which has no other field than the task; undefined for every other frame. */
function decodeStarted(frame: Uint8Array): FromWorkerFrame | undefined {
  if (frame[0] !== FROM_WORKER_STARTED) return undefined
  const reader = new ProtoReader(frame, 1).message()
  if (!reader.more || reader.tag() !== STARTED_TASK) return undefined
  const task = reader.varint()
  return reader.more ? undefined : { $case: 'started', value: { task } }
}

/** A Done with a result, which has no other fields than these three; undefined for every other frame. */
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

/** Splits a byte stream into frames. Calls `onFrame` for each complete frame, in order and without its header. */
export class FrameReader {
  /** The bytes of an incomplete frame. */
  #pieces: Uint8Array[] = []
  /** How many bytes #pieces has. */
  #bytes = 0
  /** How many bytes the next step needs: a header, or the frame that a header announced. */
  #needed = HEADER_BYTES
  /** An incomplete large frame, instead of #pieces. */
  #large: ChunkAssembler | undefined

  /** @param file the shared file, if there is one. */
  constructor(
    private readonly onFrame: (frame: Uint8Array) => void,
    private readonly file?: SharedFileReader,
  ) {}

  /** Takes what a socket has read. @throws RangeError for a frame of more than MAX_FRAME_BYTES. */
  push(piece: Uint8Array): void {
    if (this.#large) return this.#pushLarge(this.#large, piece)
    this.#pieces.push(piece)
    this.#bytes += piece.length
    if (this.#bytes < this.#needed) return
    const joined = this.#pieces.length === 1 ? piece : Buffer.concat(this.#pieces, this.#bytes)
    const rest = joined.subarray(this.#readFrames(joined))
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

  /** Passes on every complete frame and returns where the first incomplete one begins. */
  #readFrames(bytes: Uint8Array): number {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    let at = 0
    for (;;) {
      this.#needed = HEADER_BYTES
      if (bytes.length - at < HEADER_BYTES) return at
      const length = view.getUint32(at)
      if (length >= IN_FILE && this.file) {
        this.#needed = HEADER_BYTES + PLACE_BYTES
        if (bytes.length - at < this.#needed) return at
        this.onFrame(this.file.take(view.getUint32(at + HEADER_BYTES), length - IN_FILE))
        at += this.#needed
        continue
      }
      if (length > MAX_FRAME_BYTES) {
        throw new RangeError(`a frame of ${length} bytes is announced; the limit is ${MAX_FRAME_BYTES}`)
      }
      this.#needed = HEADER_BYTES + length
      if (bytes.length - at < this.#needed) return at
      this.onFrame(bytes.subarray(at + HEADER_BYTES, at + this.#needed))
      at += this.#needed
    }
  }
}

/**
 * The monotonic clock of the machine, in milliseconds: the clock of Run.begin_by. All processes of a machine read the same
 * value. Each call reads the whole clock: adding an offset to performance.now(), measured once, would keep the error of
 * that measurement, which may have been interrupted.
 */
export const monotonic = (): number => Number(process.hrtime.bigint()) / 1e6
