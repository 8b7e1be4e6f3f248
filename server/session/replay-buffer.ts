import type { Outcome } from '../../pool/scheduler/task.js'
import { writeOutcome, writeReceived } from '../../wire/framing/call-codec.js'
import { ProtoWriter } from '../../wire/framing/protobuf.js'
import { FRAME_TARGET_BYTES } from '../../wire/protocol.js'
import { failuresOf } from '../api/map-rpc.js'

/**
 * The outcomes of calls on their way out: written as they come, taken as whole messages of a bounded size. Messages are
 * numbered from 1, and kept until they are released: a stream that breaks loses none.
 */
export class Outcomes {
  readonly #writer = new ProtoWriter()
  readonly #messages: Buffer[] = []
  #messageBytes = 0
  /** Of these: handed out, and kept in case that they have to be handed out again. */
  #takenBytes = 0
  /** How many messages have been released: the number of the one before the first that is kept. */
  #released = 0
  /** How many of the client's messages have been received, as the last of ours says, and as the next will say. */
  #told = 0
  #toTell = 0
  #end: { readonly error: unknown } | { readonly error?: undefined } | undefined
  #wake: (() => void) | undefined

  /** What has not been taken. */
  get bytes(): number {
    return this.#messageBytes - this.#takenBytes + this.#writer.length
  }

  /** What was taken and has not been released. */
  get keptBytes(): number {
    return this.#takenBytes
  }

  get ended(): boolean {
    return this.#end !== undefined
  }

  push(id: number, outcome: Outcome): void {
    if (this.#end) return
    writeOutcome(this.#writer, id, outcome.ok ? outcome.payload : undefined, failuresOf(0, outcome))
    if (this.#writer.length >= FRAME_TARGET_BYTES) this.#cut()
    this.#wake?.()
  }

  /** The next message says how many of the client's have been received; one that has nothing else, after `most` of them. */
  receive(received: number, most: number): void {
    this.#toTell = received
    if (received - this.#told < most) return
    if (this.#writer.length === 0) this.#cut()
    this.#wake?.()
  }

  /** Nothing more comes: what is there is still taken, then comes the end, or the error. */
  end(error?: unknown): void {
    this.#end ??= error === undefined ? {} : { error }
    this.#wake?.()
  }

  /** Forgets all that is there: what is taken next is the error. */
  drop(error: unknown): void {
    this.#writer.reset()
    this.#released += this.#messages.length
    this.#messages.length = 0
    this.#messageBytes = 0
    this.#takenBytes = 0
    this.#end = { error }
    this.#wake?.()
  }

  /** Wakes whoever takes: the reason to do so may have gone. */
  interrupt(): void {
    this.#wake?.()
  }

  /** Forgets the messages up to this number: they have been received, or never can be. */
  release(number: number): void {
    for (; this.#released < number && this.#messages.length > 0; this.#released++) {
      const bytes = this.#messages.shift()?.length ?? 0
      this.#messageBytes -= bytes
      this.#takenBytes -= bytes
    }
  }

  /** What was taken and has not been released is to be taken again. */
  rewind(): void {
    this.#takenBytes = 0
  }

  /**
   * The message of this number, when it is there; undefined when all has ended, or when `isTaken` says that somebody
   * else takes them now. Throws the error that ended it.
   */
  async take(number: number, isTaken: () => boolean): Promise<Buffer | undefined> {
    while (!isTaken()) {
      const at = number - this.#released - 1
      if (at >= this.#messages.length && this.#writer.length > 0) this.#cut()
      const message = this.#messages[at]
      if (message) {
        this.#takenBytes += message.length
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

  #cut(): void {
    if (this.#toTell > this.#told) writeReceived(this.#writer, this.#toTell)
    this.#told = this.#toTell
    this.#messageBytes += this.#writer.length
    this.#messages.push(this.#writer.take())
  }
}
