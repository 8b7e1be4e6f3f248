import { CallRequestWriter, type GroupHead } from '../wire/call-codec.js'
import { Failure } from '../wire/failure.js'
import { FRAME_CALLS, FRAME_TARGET_BYTES, MAX_FIELDS, UNSENT_BYTES } from '../wire/limits.js'
import { isSame } from './group-head.js'
import type { CallStream } from './grpc-transport.js'

/** Larger ones wait until the server has said how large a message may be: one that is too large would end them all. */
const LARGE_BYTES = 2 * 1024 * 1024

/** Calls and cancellations in one message. */
interface Message {
  readonly bytes: Buffer
  /** Of its calls, and of those before: an id that is larger has not left. */
  readonly lastId: number
  /** A large call is the only one of its message. */
  readonly onlyId: number | undefined
}

/**
 * What a session has to say: filled into messages, written as fast as its stream takes them, and kept until the server has
 * confirmed them.
 *
 *   message (being filled) ─▶ waiting ─▶ stream, unconfirmed ─▶ confirmed
 *                                ▲              │
 *                                └── greeted ───┘  a new stream
 */
export class Outbox {
  #message: CallRequestWriter | undefined
  #lastId = 0
  #waiting: Message[] = []
  #unconfirmed: Message[] = []
  #confirmed = 0
  #writtenId = 0
  /** Written to the current stream, and not sent. */
  #unsent = 0
  #stream: CallStream | undefined
  #maxBytes: number | undefined

  /** @param refused is told of a call that no message can carry. */
  constructor(
    private readonly flush: () => void,
    private readonly refused: (id: number, reason: Failure) => void,
  ) {}

  /** An id that is larger has not left. */
  get writtenId(): number {
    return this.#writtenId
  }

  /** The stream has enough for now, or there is none. */
  get isBlocked(): boolean {
    return this.#stream === undefined || this.#stream.writableNeedDrain || this.#unsent >= UNSENT_BYTES
  }

  /** There is something that has not been written. */
  get isWaiting(): boolean {
    return this.#message !== undefined || this.#waiting.length > 0
  }

  /** There is something that the server may not have heard. */
  get isUnheard(): boolean {
    return this.isWaiting || this.#unconfirmed.length > 0
  }

  add(head: GroupHead, id: number, args: readonly Uint8Array[], chunk: Uint8Array | undefined): void {
    this.#lastId = id
    if (args.length > MAX_ARGS) {
      const message = `the call has ${args.length} arguments; it may have ${MAX_ARGS}`
      queueMicrotask(() => this.refused(id, new Failure('BAD_REQUEST', message)))
      return
    }
    let bytes = chunk?.length ?? 0
    for (const arg of args) bytes += arg.length
    const isLarge = bytes > LARGE_BYTES
    const message = this.#fill(isLarge || (this.#message?.fields ?? 0) + args.length > MAX_ARGS, id - 1)
    if (!message.head || !isSame(message.head, head)) message.begin(head)
    message.add(id, args, chunk)
    if (isLarge) this.#cut(message, id)
  }

  cancel(id: number): void {
    this.#fill(false, this.#lastId).cancel(id)
  }

  /** A stream begins; one that was there before is over. */
  attach(stream: CallStream): void {
    this.#stream = stream
    this.#unsent = 0
  }

  /** The server has answered a stream. What it has not received of what was written to those before goes out first. */
  greeted(maxBytes: number, isResumed: boolean): void {
    this.#maxBytes = maxBytes || Number.POSITIVE_INFINITY
    if (!isResumed) return
    this.#waiting = [...this.#unconfirmed, ...this.#waiting]
    this.#unconfirmed = []
  }

  /** So many messages have been received by the server; one may say that it has received more than was ever sent. */
  confirm(received: number): void {
    this.#confirmed += this.#unconfirmed.splice(0, Math.max(0, received - this.#confirmed)).length
  }

  /** Writes what the stream takes. */
  write(): void {
    if (this.isBlocked) return
    if (this.#message) this.#cut(this.#message)
    while (!this.isBlocked) {
      const message = this.#waiting[0]
      if (!message || !this.#mayLeave(message)) return
      this.#waiting.shift()
      if (this.#isTooLarge(message)) continue
      this.#unconfirmed.push(message)
      // Also of one that is sent again.
      this.#writtenId = Math.max(this.#writtenId, message.lastId)
      this.#send(message.bytes)
    }
  }

  #mayLeave({ bytes }: Message): boolean {
    return this.#maxBytes !== undefined || bytes.length <= LARGE_BYTES
  }

  #isTooLarge({ bytes, onlyId }: Message): boolean {
    const max = this.#maxBytes ?? Number.POSITIVE_INFINITY
    if (onlyId === undefined || bytes.length <= max) return false
    const reason = `the arguments of the call take ${bytes.length} bytes; the server takes messages of ${max}`
    this.refused(onlyId, new Failure('PAYLOAD_TOO_LARGE', reason))
    return true
  }

  #send(bytes: Buffer): void {
    const stream = this.#stream
    this.#unsent += bytes.length
    stream?.write(bytes, () => {
      if (stream !== this.#stream) return
      const wasBlocked = this.isBlocked
      this.#unsent -= bytes.length
      if (wasBlocked) this.flush()
    })
  }

  /** The message being filled, or a new one where that has enough. */
  #fill(anew: boolean, lastId: number): CallRequestWriter {
    const message = this.#message
    if (message && (anew || message.length >= FRAME_TARGET_BYTES || message.calls >= FRAME_CALLS)) {
      this.#cut(message, undefined, lastId)
    }
    this.#message ??= new CallRequestWriter()
    return this.#message
  }

  #cut(message: CallRequestWriter, onlyId?: number, lastId = this.#lastId): void {
    this.#waiting.push({ bytes: message.finish(), lastId, onlyId })
    this.#message = undefined
  }
}

/** A message may have MAX_FIELDS in all its depth: besides these, what stands around them. */
const MAX_ARGS = MAX_FIELDS / 2
