import { createHash } from 'node:crypto'
import { DEFAULT_POOL } from '../../pool/engine.js'
import { Failure } from '../../wire/failure.js'
import { RESUME_MS } from '../../wire/protocol.js'
import { truncateUtf8 } from '../../wire/truncate.js'
import type { Credential, EndableCall } from '../auth/identity.js'
import type { Call } from '../grpc/adapter.js'

const MAX_ID_BYTES = 64

/** Limits of the calls that are remembered after their end: how many, for how long, and how large altogether. */
const REMEMBERED_CALLS = 10_000
const REMEMBER_MS = 60_000
const REMEMBERED_BYTES = 64 * 1024 * 1024

/** A call that goes on without its caller. */
export interface StartedCall<T> {
  readonly outcome: Promise<T>
  /** Ends it. */
  readonly cancel: (reason: Failure) => void
}

interface NamedCall extends EndableCall {
  readonly outcome: Promise<unknown>
  /** What it asks for. */
  readonly fingerprint: string
  /** Callers that wait for its outcome. */
  waiting: number
  hasEnded: boolean
  /** The size of its outcome, once it has ended. */
  bytes: number
  /** While nobody waits: ends it, or forgets it if it has ended. */
  timer: NodeJS.Timeout | undefined
  /** While nobody waits: what the last caller has shown. The call ends when that is revoked. */
  credential: Credential | undefined
}

/**
 * Calls with a `request_id`, which a client may send again if it lost the answer: the second joins the first, or gets its
 * outcome, for a minute after its end. A call for which nobody waits goes on for RESUME_MS, in case it is sent again, unless the
 * token of its last caller is revoked. Each principal has ids of its own.
 */
export class RequestDeduplication {
  /** By Principal.keyOf. */
  readonly #calls = new Map<string, NamedCall>()
  /** Those that have ended, the earliest first. */
  readonly #ended = new Map<string, NamedCall>()
  #bytes = 0

  /**
   * Waits for the call of this id, and starts it if there is none.
   * @param fingerprint what the call asks for: the same id for another request is a mistake.
   * @throws Failure BAD_REQUEST for an id that is too long or that belongs to another request.
   */
  async join<T>(id: string, fingerprint: string, start: () => StartedCall<T>, caller: Call): Promise<T> {
    if (Buffer.byteLength(id) > MAX_ID_BYTES) {
      throw new Failure('BAD_REQUEST', `request_id has ${Buffer.byteLength(id)} bytes; it may have ${MAX_ID_BYTES}`)
    }
    const key = caller.caller.principal.keyOf(id)
    const call = this.#calls.get(key) ?? this.#start(key, fingerprint, start)
    if (call.fingerprint !== fingerprint) {
      const message = `request_id names another call: ${call.fingerprint}, and not ${fingerprint}`
      throw new Failure('BAD_REQUEST', message)
    }
    clearTimeout(call.timer)
    call.credential?.remove(call)
    call.waiting++
    try {
      const gone = new Promise<never>((_, reject) =>
        caller.onEnd((reason) => {
          // The deadline of the only caller is the deadline of the call, which fails with it.
          if (reason.reason === 'TASK_TIMEOUT' && call.waiting === 1) call.end(reason)
          else reject(reason)
        }),
      )
      return (await Promise.race([call.outcome, gone])) as T
    } finally {
      if (--call.waiting === 0) {
        this.#setTimer(key, call)
        if (!call.hasEnded) {
          call.credential = caller.caller.credential
          call.credential.add(call)
        }
      }
    }
  }

  #start(key: string, fingerprint: string, start: () => StartedCall<unknown>): NamedCall {
    const { outcome, cancel } = start()
    const call: NamedCall = {
      fingerprint,
      outcome,
      end: cancel,
      waiting: 0,
      hasEnded: false,
      bytes: 0,
      timer: undefined,
      credential: undefined,
    }
    this.#calls.set(key, call)
    void outcome
      .catch((error: unknown) => error)
      .then((answer) => {
        call.credential?.remove(call)
        // If it was refused before it began, the same id starts afresh.
        if (hasNotBegun(answer)) return this.#drop(key, call)
        call.hasEnded = true
        // It would keep the request in memory.
        call.end = () => {}
        call.bytes = sizeOf(answer)
        this.#bytes += call.bytes
        this.#ended.set(key, call)
        if (call.waiting === 0) this.#setTimer(key, call)
        for (const oldest of this.#ended.keys()) {
          if (this.#ended.size <= REMEMBERED_CALLS && this.#bytes <= REMEMBERED_BYTES) break
          this.#forget(oldest)
        }
      })
    return call
  }

  #setTimer(key: string, call: NamedCall): void {
    if (this.#calls.get(key) !== call) return
    clearTimeout(call.timer)
    const gone = new Failure('CANCELLED', 'the client of the call is gone')
    call.timer = setTimeout(
      () => (call.hasEnded ? this.#forget(key) : call.end(gone)),
      call.hasEnded ? REMEMBER_MS : RESUME_MS,
    ).unref()
  }

  #drop(key: string, call: NamedCall): void {
    clearTimeout(call.timer)
    this.#calls.delete(key)
  }

  #forget(key: string): void {
    const call = this.#ended.get(key)
    if (!call) return
    this.#ended.delete(key)
    this.#drop(key, call)
    this.#bytes -= call.bytes
  }
}

/** What a request asks for, in words that can stand in an error message. */
export function fingerprint(
  rpc: string,
  {
    pool,
    function: name,
    kwargs,
  }: { readonly pool: string; readonly function: string; readonly kwargs?: Uint8Array | undefined },
  parts: readonly Uint8Array[],
): string {
  const hash = createHash('sha256')
  let bytes = 0
  for (const part of [...parts, kwargs ?? new Uint8Array()]) {
    bytes += part.length
    hash.update(`${part.length}:`).update(part)
  }
  const payloads = `${bytes} bytes (SHA-256 ${hash.digest('hex').slice(0, 32)})`
  return `${rpc} of ${truncateUtf8(name, 100)} in ${truncateUtf8(pool || DEFAULT_POOL, 100)} with ${payloads}`
}

/** An answer is a failure, an outcome that may contain one, or the response of an RPC. */
function hasNotBegun(answer: unknown): boolean {
  const failure = answer instanceof Failure ? answer : (answer as { failure?: unknown } | undefined)?.failure
  return failure instanceof Failure && failure.started === false
}

/** The size of an answer as far as it can be large: payloads, and the messages and stacks of failures. */
function sizeOf(answer: unknown): number {
  if (answer instanceof Uint8Array) return answer.length
  if (typeof answer === 'string') return 2 * answer.length
  if (typeof answer !== 'object' || answer === null) return 8
  const parts = answer instanceof Error ? [answer.message, ...Object.values(answer)] : Object.values(answer)
  return parts.reduce((sum: number, part) => sum + sizeOf(part), 64)
}
