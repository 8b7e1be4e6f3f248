import { Failure } from '../../wire/failure.js'
import { RESUME_MS } from '../../wire/limits.js'
import type { Outcome } from '../pool/task.js'

const LONGEST_ID_BYTES = 64
/** How many calls with a name are remembered, and for how long after their end. */
const REMEMBERED = 10_000
const REMEMBER_MS = 60_000
/** Results that are remembered take no more than this altogether. */
const REMEMBERED_BYTES = 64 * 1024 * 1024

interface Named {
  readonly outcome: Promise<Outcome>
  readonly cancel: (reason: Failure) => void
  waiting: number
  /** Ends it when nobody has come back for it, or forgets it. */
  timer: NodeJS.Timeout | undefined
  bytes: number
}

/**
 * Calls that their clients have named, so that they can be sent again when an answer was lost: the second joins the first,
 * or gets what became of it. One that nobody waits for any more goes on for a while, in case that it is sent again.
 */
export class Joins {
  readonly #calls = new Map<string, Named>()
  #bytes = 0

  /**
   * Waits for the call of that name, which `start` begins where there is none; `onEnd` tells when this caller is gone.
   * @throws Failure BAD_REQUEST for a name that is too long.
   */
  async join(
    id: string,
    start: () => Pick<Named, 'outcome' | 'cancel'>,
    onEnd: (listener: (reason: Failure) => void) => void,
  ): Promise<Outcome> {
    if (Buffer.byteLength(id) > LONGEST_ID_BYTES) {
      throw new Failure('BAD_REQUEST', `request_id has ${Buffer.byteLength(id)} bytes; it may have ${LONGEST_ID_BYTES}`)
    }
    const call = this.#calls.get(id) ?? this.#begin(id, start)
    clearTimeout(call.timer)
    call.waiting++
    try {
      const gone = new Promise<never>((_, reject) =>
        onEnd((reason) => {
          // Its time is over, and so is that of every other try.
          if (reason.reason === 'TASK_TIMEOUT' && call.waiting === 1) call.cancel(reason)
          reject(reason)
        }),
      )
      return await Promise.race([call.outcome, gone])
    } finally {
      if (--call.waiting === 0) this.#leave(id, call)
    }
  }

  #begin(id: string, start: () => Pick<Named, 'outcome' | 'cancel'>): Named {
    const call: Named = { ...start(), waiting: 0, timer: undefined, bytes: -1 }
    this.#calls.set(id, call)
    void call.outcome.then((outcome) => {
      call.bytes = outcome.ok ? outcome.payload.length : 0
      this.#bytes += call.bytes
      if (call.waiting === 0) this.#leave(id, call)
      for (const [oldest, { bytes }] of this.#calls) {
        if (this.#calls.size <= REMEMBERED && this.#bytes <= REMEMBERED_BYTES) break
        if (bytes >= 0) this.#forget(oldest)
      }
    })
    return call
  }

  #leave(id: string, call: Named): void {
    if (this.#calls.get(id) !== call) return
    clearTimeout(call.timer)
    const isOver = call.bytes >= 0
    const gone = new Failure('CANCELLED', 'the client of the call is gone')
    call.timer = setTimeout(
      () => (isOver ? this.#forget(id) : call.cancel(gone)),
      isOver ? REMEMBER_MS : RESUME_MS,
    ).unref()
  }

  #forget(id: string): void {
    const call = this.#calls.get(id)
    this.#calls.delete(id)
    clearTimeout(call?.timer)
    this.#bytes -= call?.bytes ?? 0
  }
}
