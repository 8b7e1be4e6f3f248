import { Failure } from '../../wire/failure.js'
import { RETRY_MS } from '../../wire/protocol.js'

/**
 * Which requests the server accepts: all of them until it drains, then none. Requests that run tasks enter and leave
 * here, so that `idle` can tell when the last one has been answered.
 */
export class Admission {
  /** True from `drain()` on. A plain field, because every group of calls reads it. */
  isDraining = false
  #requests = 0
  #streams = 0
  readonly #onDrain = new Set<() => void>()
  #whenIdle: (() => void)[] = []

  /** A request comes in. The caller must call `leave` once, after its answer. @throws Failure SERVER_DRAINING. */
  enter(): void {
    this.check()
    this.#requests++
  }

  leave(): void {
    this.#requests--
    this.#checkIdle()
  }

  /** A stream of calls, or a session, opens. The returned function must be called when its last outcome was handed out. */
  openStream(): () => void {
    let isOpen = true
    this.#streams++
    return () => {
      if (isOpen) this.#streams--
      isOpen = false
      this.#checkIdle()
    }
  }

  /** @throws Failure SERVER_DRAINING. */
  check(): void {
    if (this.isDraining) throw draining()
  }

  drain(): void {
    this.isDraining = true
    for (const listener of [...this.#onDrain]) listener()
  }

  /** Calls back when draining begins, or at once if it has begun. Returns how to stop listening. */
  onDrain(listener: () => void): () => void {
    if (this.isDraining) listener()
    this.#onDrain.add(listener)
    return () => this.#onDrain.delete(listener)
  }

  /** Resolves when every request has been answered, and every stream has handed out its outcomes. */
  idle(): Promise<void> {
    return new Promise((resolve) => {
      this.#whenIdle.push(resolve)
      this.#checkIdle()
    })
  }

  #checkIdle(): void {
    if (this.#requests === 0 && this.#streams === 0) for (const resolve of this.#whenIdle.splice(0)) resolve()
  }
}

export const draining = (): Failure =>
  new Failure('SERVER_DRAINING', 'the server is shutting down; send the call to another, or again', {
    retryDelayMs: RETRY_MS,
  })
