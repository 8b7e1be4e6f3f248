import type { ServerHttp2Stream } from 'node:http2'
import { BEGUN_IN_A_TURN } from '../../wire/limits.js'

/**
 * The calls of one connection that come: a few begin in a turn of the event loop, and the rest in those behind it. A read of a
 * socket brings hundreds, for which everybody else would wait; and those that are reset meanwhile cost nothing.
 */
export class Begins {
  #isTurn = false
  #begun = 0
  readonly #waiting: { readonly stream: ServerHttp2Stream; readonly begin: () => void }[] = []

  /** Calls `begin`, now or later, unless the stream has been closed by then. */
  push(stream: ServerHttp2Stream, begin: () => void): void {
    if (!this.#isTurn) setImmediate(this.#goOn)
    this.#isTurn = true
    if (this.#begun < BEGUN_IN_A_TURN) return this.#begin(stream, begin)
    // One that fails meanwhile has nobody else to tell.
    stream.on('error', () => {})
    this.#waiting.push({ stream, begin })
  }

  readonly #goOn = (): void => {
    this.#begun = 0
    let gone = 0
    for (const { stream, begin } of this.#waiting) {
      if (this.#begun === BEGUN_IN_A_TURN) break
      gone++
      this.#begin(stream, begin)
    }
    this.#waiting.splice(0, gone)
    this.#isTurn = this.#begun > 0
    if (this.#isTurn) setImmediate(this.#goOn)
  }

  #begin(stream: ServerHttp2Stream, begin: () => void): void {
    // To answer one that is closed would throw.
    if (stream.destroyed || stream.closed) return
    this.#begun++
    begin()
  }
}
