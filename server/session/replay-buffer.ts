import type { Outcome } from '../../pool/scheduler/task.js'
import { writeOutcome, writeReceived } from '../../wire/framing/call-codec.js'
import { type Pieces, ProtoWriter, REFERENCE_BYTES } from '../../wire/framing/protobuf.js'
import { FRAME_TARGET_BYTES } from '../../wire/protocol.js'
import { itemFailures } from '../calls/call-path.js'

/**
 * The outcomes of a stream of calls on their way to the client. They are encoded as they come, and taken as messages of
 * a bounded size. Messages are numbered from 1 and kept until the client has acknowledged them, so that a new stream of
 * the session can send them again.
 *
 *   push ─▶ message being written ─▶ waiting ─ take ─▶ sent ─ acknowledge ─▶ gone
 *                                       ▲              │
 *                                       └─── rewind ───┘   a new stream
 */
export class ReplayBuffer {
  /** The message being written. */
  readonly #writer = new ProtoWriter()
  /** Finished messages: those that were sent, then those that wait. */
  readonly #messages: Pieces[] = []
  #messageBytes = 0
  #sentBytes = 0
  /** Messages that are gone: the number of the one before the first in #messages. */
  #acknowledged = 0
  /** How many messages of the client have been received, according to our last message, and in fact. */
  #confirmed = 0
  #toConfirm = 0
  #end: { readonly error: unknown } | { readonly error?: undefined } | undefined
  #wake: (() => void) | undefined

  /** Bytes that have not been sent. */
  get waitingBytes(): number {
    return this.#messageBytes - this.#sentBytes + this.#writer.length
  }

  /** Bytes that have been sent and not been acknowledged. */
  get sentBytes(): number {
    return this.#sentBytes
  }

  get hasEnded(): boolean {
    return this.#end !== undefined
  }

  /** Ignored after the end. */
  push(id: number, outcome: Outcome): void {
    if (this.#end) return
    writeOutcome(this.#writer, id, outcome.ok ? keepable(outcome.payload) : undefined, itemFailures(0, outcome))
    if (this.#writer.length >= FRAME_TARGET_BYTES) this.#finishMessage()
    this.#wake?.()
  }

  /**
   * The next message also confirms that this many messages of the client have been received. If `most` of them are
   * unconfirmed, a message leaves for that alone.
   */
  confirm(received: number, most: number): void {
    this.#toConfirm = received
    if (received - this.#confirmed < most) return
    if (this.#writer.length === 0) this.#finishMessage()
    this.#wake?.()
  }

  /** Nothing more comes. The rest is still taken, and then the end, or the error. */
  end(error?: unknown): void {
    this.#end ??= error === undefined ? {} : { error }
    this.#wake?.()
  }

  /** Forgets everything. `take` throws the error from now on. */
  drop(error: unknown): void {
    this.#writer.reset()
    this.#acknowledged += this.#messages.length
    this.#messages.length = 0
    this.#messageBytes = 0
    this.#sentBytes = 0
    this.#end = { error }
    this.#wake?.()
  }

  /** Makes a waiting `take` look at `isReplaced` again. */
  interrupt(): void {
    this.#wake?.()
  }

  /** Forgets the messages up to this number. */
  acknowledge(number: number): void {
    if (number <= this.#acknowledged) return
    // All at once: there may be ten thousand, and each shift() would move the rest.
    const gone = this.#messages.splice(0, number - this.#acknowledged)
    this.#acknowledged += gone.length
    for (const { length } of gone) {
      this.#messageBytes -= length
      this.#sentBytes -= length
    }
  }

  /** Messages that were sent and not acknowledged wait again. */
  rewind(): void {
    this.#sentBytes = 0
  }

  /**
   * Waits for the message of this number. Undefined if everything has ended, or if `isReplaced` says that another stream
   * takes the messages now. Throws the error that ended it.
   */
  async take(number: number, isReplaced: () => boolean): Promise<Pieces | undefined> {
    while (!isReplaced()) {
      const at = number - this.#acknowledged - 1
      if (at >= this.#messages.length && this.#writer.length > 0) this.#finishMessage()
      const message = this.#messages[at]
      if (message) {
        this.#sentBytes += message.length
        return message
      }
      if (this.#end?.error !== undefined) throw this.#end.error
      if (this.#end) return undefined
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
      this.#wake = undefined
    }
    return undefined
  }

  #finishMessage(): void {
    if (this.#toConfirm > this.#confirmed) writeReceived(this.#writer, this.#toConfirm)
    this.#confirmed = this.#toConfirm
    this.#messageBytes += this.#writer.length
    this.#messages.push(this.#writer.takePieces())
  }
}

/**
 * A result that can be kept until the client has acknowledged it. A large one is a piece of its message and stays where the
 * worker's report was read; it is copied if most of that buffer is something else, which nobody would count.
 */
function keepable(payload: Uint8Array): Uint8Array {
  const isView = payload.length >= REFERENCE_BYTES && payload.buffer.byteLength > 2 * payload.length
  return isView ? Buffer.from(payload) : payload
}
