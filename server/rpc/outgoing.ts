import type { ServerDuplexStream, ServerWritableStream } from '@grpc/grpc-js'
import { UNSENT_BYTES, UNSENT_COPIES } from '../../wire/limits.js'
import type { Account } from './budget.js'

/** The call that is answered. */
interface Answered {
  readonly client: Account | string
  readonly ended: unknown
  /** Called when it ends. */
  wake: (() => void) | undefined
}

/** The messages of an answer that have not been sent: few, by their bytes. grpc-js counts messages, and waits at 16. */
export class Outgoing {
  #unsent = 0
  #isOver = false
  #wake: (() => void) | undefined

  constructor(
    private readonly stream: ServerWritableStream<Uint8Array, Uint8Array> | ServerDuplexStream<Uint8Array, Uint8Array>,
    private readonly call: Answered,
  ) {
    call.wake = () => this.#wake?.()
    stream.on('drain', () => this.#wake?.())
    for (const event of ['cancelled', 'close']) stream.on(event, () => this.#end())
  }

  /** Resolves when the stream takes more, or never will. */
  async write(message: Uint8Array): Promise<void> {
    if (this.#isOver || this.call.ended || this.stream.cancelled) return
    this.#count(message.length)
    let takesMore = this.stream.write(message, () => {
      if (this.#isOver) return
      this.#count(-message.length)
      if (this.#unsent < UNSENT_BYTES) this.#wake?.()
    })
    while ((!takesMore || this.#unsent >= UNSENT_BYTES) && !this.#isOver && !this.call.ended) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
      this.#wake = undefined
      takesMore = !this.stream.writableNeedDrain
    }
  }

  #count(bytes: number): void {
    this.#unsent += bytes
    const { client } = this.call
    if (typeof client !== 'string') client.addUnread(UNSENT_COPIES * bytes)
  }

  #end(): void {
    if (this.#isOver) return
    this.#count(-this.#unsent)
    this.#isOver = true
    this.#wake?.()
  }
}
