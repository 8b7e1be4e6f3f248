import { writeOutcome } from '../../wire/call-codec.js'
import { FRAME_TARGET_BYTES } from '../../wire/limits.js'
import { ProtoWriter } from '../../wire/proto-writer.js'
import type { Outcome } from '../pool/task.js'
import { failuresOf } from './map.js'

/** The outcomes of a stream of calls on their way out: written as they come, taken as whole messages of a bounded size. */
export class Outcomes {
  readonly #writer = new ProtoWriter()
  readonly #messages: Buffer[] = []
  #messageBytes = 0
  #end: { readonly error: unknown } | { readonly error?: undefined } | undefined
  #wake: (() => void) | undefined

  /** What has not been taken. */
  get bytes(): number {
    return this.#messageBytes + this.#writer.length
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

  /** Nothing more comes: what is there is still taken, then comes the end, or the error. */
  end(error?: unknown): void {
    this.#end ??= error === undefined ? {} : { error }
    this.#wake?.()
  }

  /** The next message; undefined when all has ended. Throws the error that ended it. */
  async take(): Promise<Buffer | undefined> {
    while (this.bytes === 0 && !this.#end) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
      this.#wake = undefined
    }
    if (this.bytes === 0 && this.#end?.error !== undefined) throw this.#end.error
    if (this.#messages.length === 0 && this.#writer.length > 0) this.#cut()
    const message = this.#messages.shift()
    this.#messageBytes -= message?.length ?? 0
    return message
  }

  #cut(): void {
    this.#messageBytes += this.#writer.length
    this.#messages.push(this.#writer.take())
  }
}
