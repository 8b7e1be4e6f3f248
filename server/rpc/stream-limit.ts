import type { ServerHttp2Session, ServerHttp2Stream } from 'node:http2'
import { NEW_STREAMS } from '../../wire/limits.js'

/** A stream that has been open for so long is no part of a flood. */
const OLD_MS = 1_000

/**
 * How many streams a connection may have open: NEW_STREAMS at first, and more as some of them stay open, up to a limit. A thousand
 * that are opened in one breath, and given up as fast, cost the server tenths of a second; whoever needs as many (plain stubs with long
 * calls, open pools) has them after a few seconds. Never fewer again: calls may be on their way.
 */
export class StreamLimit {
  /** Since when streams are open, the oldest first. */
  readonly #since = new Map<ServerHttp2Stream, number>()
  #limit: number
  #timer: NodeJS.Timeout | undefined

  constructor(
    private readonly session: ServerHttp2Session,
    private readonly most: number,
  ) {
    this.#limit = StreamLimit.first(most)
    session.once('close', () => clearTimeout(this.#timer))
  }

  /** What a connection begins with. */
  static first(most: number): number {
    return Math.min(NEW_STREAMS, most)
  }

  begin(stream: ServerHttp2Stream): void {
    this.#since.set(stream, performance.now())
    stream.once('close', () => this.#since.delete(stream))
    this.#look()
  }

  /** Where half of the limit is open it is looked at again when those are old. */
  #look(): void {
    if (this.#timer || this.#limit === this.most || this.#since.size < this.#limit / 2) return
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      this.#raise()
      this.#look()
    }, OLD_MS).unref()
  }

  #raise(): void {
    const limit = Math.min(this.most, NEW_STREAMS + 2 * this.#old)
    const { session } = this
    if (limit <= this.#limit || session.destroyed || session.closed || session.pendingSettingsAck) return
    this.#limit = limit
    session.settings({ maxConcurrentStreams: limit })
  }

  get #old(): number {
    const before = performance.now() - OLD_MS
    let old = 0
    for (const since of this.#since.values()) {
      if (since > before) break
      old++
    }
    return old
  }
}
