import { Failure } from '../../wire/failure.js'
import { RETRY_MS } from '../../wire/protocol.js'

/**
 * Who may come in. Calls that run tasks enter here and leave when they have been answered; once draining, none comes
 * in any more and `idle` tells when the last one has left.
 */
export class Admission {
  #inside = 0
  #streams = 0
  #draining = false
  readonly #listeners = new Set<() => void>()
  #whenIdle: (() => void)[] = []

  /** Throws SERVER_DRAINING; otherwise the caller must leave once. */
  enter(): void {
    this.check()
    this.#inside++
  }

  leave(): void {
    this.#inside--
    this.#look()
  }

  /** A stream of calls, or a session: it has to hand out its outcomes when its last call has left. Returns how to say that it has. */
  open(): () => void {
    let isOpen = true
    this.#streams++
    return () => {
      if (isOpen) this.#streams--
      isOpen = false
      this.#look()
    }
  }

  #look(): void {
    if (this.#inside === 0 && this.#streams === 0) for (const resolve of this.#whenIdle.splice(0)) resolve()
  }

  /** Throws SERVER_DRAINING. */
  check(): void {
    if (!this.#draining) return
    throw new Failure('SERVER_DRAINING', 'the server is shutting down; send the call to another, or again', {
      retryDelayMs: RETRY_MS,
    })
  }

  drain(): void {
    this.#draining = true
    for (const listener of [...this.#listeners]) listener()
  }

  get draining(): boolean {
    return this.#draining
  }

  /** Calls back when draining begins, at once where it has; returns how to stop listening. For streams, which nobody ends otherwise. */
  onDrain(listener: () => void): () => void {
    if (this.#draining) listener()
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  get inside(): number {
    return this.#inside
  }

  /** Resolves when nobody is inside, and no stream has anything left to say. */
  idle(): Promise<void> {
    return new Promise((resolve) => {
      this.#whenIdle.push(resolve)
      this.#look()
    })
  }
}
