import { MAX_TIMER_MS } from '../../wire/protocol.js'

/** Keeps the program alive while anybody holds it. */
export class KeepAlive {
  #timer: NodeJS.Timeout | undefined
  #holders = 0

  hold(): void {
    if (this.#holders++ > 0) return
    this.#timer ??= setInterval(() => {}, MAX_TIMER_MS)
    this.#timer.ref()
  }

  release(): void {
    if (--this.#holders === 0) this.#timer?.unref()
  }

  holdUntil(ended: Promise<unknown>): void {
    this.hold()
    const release = () => this.release()
    ended.then(release, release)
  }

  /** Nobody needs it any more. */
  end(): void {
    clearInterval(this.#timer)
    this.#timer = undefined
  }
}
