import { Failure } from '../../wire/failure.js'
import { RESUME_MS } from '../../wire/protocol.js'

const LONGEST_ID_BYTES = 64
/** How many calls with a name are remembered after their end, and for how long. */
const REMEMBERED = 10_000
const REMEMBER_MS = 60_000
/** What became of them takes no more than this altogether. */
const REMEMBERED_BYTES = 64 * 1024 * 1024

/** A call that goes on when its caller is gone. */
export interface Begun<T> {
  readonly outcome: Promise<T>
  /** Ends it; its outcome is then this failure, or what it was. */
  readonly cancel: (reason: Failure) => void
}

interface Named {
  readonly outcome: Promise<unknown>
  cancel: (reason: Failure) => void
  /** What it asks for. */
  readonly what: string
  waiting: number
  isOver: boolean
  /** Of what became of it. */
  bytes: number
  /** Ends it when nobody has come back for it, or forgets it. */
  timer: NodeJS.Timeout | undefined
}

/**
 * Calls that their clients have named, so that they can be sent again when an answer was lost: the second joins the first,
 * or gets what became of it. One that nobody waits for any more goes on for a while, in case that it is sent again.
 */
export class Joins {
  readonly #calls = new Map<string, Named>()
  /** Of these: those that have ended, the first to end first. */
  readonly #over = new Map<string, Named>()
  #bytes = 0

  /**
   * Waits for the call of that name, which `start` begins where there is none; `onEnd` tells when this caller is gone.
   *
   * @param what the call asks for: one of the same name that asks for something else is a mistake.
   * @throws Failure BAD_REQUEST for a name that is too long, or another call's.
   */
  async join<T>(
    id: string,
    what: string,
    start: () => Begun<T>,
    onEnd: (listener: (reason: Failure) => void) => void,
  ): Promise<T> {
    if (Buffer.byteLength(id) > LONGEST_ID_BYTES) {
      throw new Failure('BAD_REQUEST', `request_id has ${Buffer.byteLength(id)} bytes; it may have ${LONGEST_ID_BYTES}`)
    }
    const call = this.#calls.get(id) ?? this.#begin(id, what, start)
    if (call.what !== what) {
      throw new Failure('BAD_REQUEST', `request_id names another call: ${call.what}, and not ${what}`)
    }
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
      return (await Promise.race([call.outcome, gone])) as T
    } finally {
      if (--call.waiting === 0) this.#leave(id, call)
    }
  }

  #begin(id: string, what: string, start: () => Begun<unknown>): Named {
    const { outcome, cancel } = start()
    const call: Named = { what, outcome, cancel, waiting: 0, isOver: false, bytes: 0, timer: undefined }
    this.#calls.set(id, call)
    void outcome
      .catch((error: unknown) => error)
      .then((answer) => {
        // Whoever sends it again is to have it run.
        if (hasNotBegun(answer)) return this.#drop(id, call)
        const bytes = bytesIn(answer)
        call.isOver = true
        // It holds the request.
        call.cancel = () => {}
        call.bytes = bytes
        this.#bytes += bytes
        this.#over.set(id, call)
        if (call.waiting === 0) this.#leave(id, call)
        for (const oldest of this.#over.keys()) {
          if (this.#over.size <= REMEMBERED && this.#bytes <= REMEMBERED_BYTES) break
          this.#forget(oldest)
        }
      })
    return call
  }

  #leave(id: string, call: Named): void {
    if (this.#calls.get(id) !== call) return
    clearTimeout(call.timer)
    const gone = new Failure('CANCELLED', 'the client of the call is gone')
    call.timer = setTimeout(
      () => (call.isOver ? this.#forget(id) : call.cancel(gone)),
      call.isOver ? REMEMBER_MS : RESUME_MS,
    ).unref()
  }

  #drop(id: string, call: Named): void {
    clearTimeout(call.timer)
    this.#calls.delete(id)
  }

  #forget(id: string): void {
    const call = this.#over.get(id)
    if (!call) return
    this.#over.delete(id)
    this.#calls.delete(id)
    clearTimeout(call.timer)
    this.#bytes -= call.bytes
  }
}

/** An answer is a failure, or an outcome that may be one, or what a call gives that has none. */
function hasNotBegun(answer: unknown): boolean {
  const failure = answer instanceof Failure ? answer : (answer as { failure?: unknown } | undefined)?.failure
  return failure instanceof Failure && failure.started === false
}

/** What an answer takes, as far as it can be large: payloads, and the messages and stacks of failures. */
function bytesIn(answer: unknown): number {
  if (answer instanceof Uint8Array) return answer.length
  if (typeof answer === 'string') return 2 * answer.length
  if (typeof answer !== 'object' || answer === null) return 8
  const parts = answer instanceof Error ? [answer.message, ...Object.values(answer)] : Object.values(answer)
  return parts.reduce((sum: number, part) => sum + bytesIn(part), 64)
}
