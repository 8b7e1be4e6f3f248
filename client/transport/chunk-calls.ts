import { OnError } from '../../proto/gen/farpool/v1/pool_service.js'
import type { Failure } from '../../wire/failure.js'
import type { GroupHead } from '../../wire/framing/call-codec.js'
import type { Reason } from '../../wire/reason.js'
import { headOf, type Session } from './client-session.js'
import { atDeadline, Resend } from './resend.js'
import type { ChunkFailure, ChunkOutcome, ChunksCall, Sink } from './transport.js'

const NO_ARGS: readonly Uint8Array[] = []

/** Said of a call before it was accepted: with one chunk, all of the request is refused. */
const REFUSALS: ReadonlySet<Reason> = new Set<Reason>([
  'BAD_REQUEST',
  'FUNCTION_NOT_FOUND',
  'POOL_NOT_FOUND',
  'POOL_CLOSED',
  'SERVER_DRAINING',
  'NO_WORKERS',
  'QUEUE_FULL',
  'INITIALIZER_FAILED',
  'MODULE_LOAD_FAILED',
])

/**
 * The chunks of one request: a call each. One that was refused for a while is sent again by itself; the first that is
 * refused for good, or lost, fails the request.
 */
export class ChunksRun {
  readonly outcome: Promise<void>
  readonly #chunks: ChunkCall[]
  #left: number
  #failed = false
  readonly #stop: () => void
  #resolve: () => void = () => {}
  #reject: (reason: Failure) => void = () => {}

  constructor(
    readonly open: () => Session,
    call: ChunksCall,
    readonly wasConnected: () => boolean,
    private readonly onOutcome: (outcome: ChunkOutcome) => void,
  ) {
    this.outcome = new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
    this.#left = call.chunks.length
    this.#stop = call.deadline === undefined ? () => {} : atDeadline(call.deadline, (reason) => this.cancel(reason))
    // In one group, as long as their session is one: they share it by identity.
    const head = {
      ...headOf(call, call.args),
      spread: call.spread,
      onError: call.failFast ? OnError.ON_ERROR_FAIL_FAST : OnError.ON_ERROR_UNSPECIFIED,
    }
    this.#chunks = call.chunks.map((payload, at) => new ChunkCall(this, call, head, payload, at))
  }

  cancel(reason: Failure): void {
    for (const chunk of this.#chunks) chunk.cancel(reason)
  }

  /** It has its failure: none of its chunks is sent again. */
  get hasFailed(): boolean {
    return this.#failed
  }

  settled(outcome: ChunkOutcome): void {
    this.onOutcome(outcome)
    if (--this.#left > 0) return
    this.#stop()
    this.#resolve()
  }

  failed(reason: Failure): void {
    // Each of those that are cancelled below comes here too, and there may be a million.
    if (this.#failed) return
    this.#failed = true
    this.#stop()
    // Of the others some may have begun.
    this.#reject(this.#chunks.length > 1 ? reason.ofOneAmongMany() : reason)
    for (const chunk of this.#chunks) chunk.cancel(reason)
  }
}

class ChunkCall implements Sink {
  #session: Session
  #id: number
  #ended = false
  #timer: NodeJS.Timeout | undefined
  #resend: Resend | undefined

  constructor(
    private readonly run: ChunksRun,
    private readonly call: ChunksCall,
    private readonly head: GroupHead,
    private readonly payload: Uint8Array,
    private readonly at: number,
  ) {
    this.#session = run.open()
    this.#id = this.#session.begin(head, NO_ARGS, payload, this)
  }

  settle(payload: Uint8Array | undefined, failures: readonly ChunkFailure[]): void {
    if (this.#ended) return
    const refusal = failures.find(({ item, failure }) => item === undefined && REFUSALS.has(failure.reason))
    if (refusal) return this.fail(refusal.failure)
    this.#ended = true
    this.run.settled({ chunk: this.at, payload, failures })
  }

  fail(reason: Failure): void {
    // Of one session some may have begun and some not: those that have not come here behind the failure of the others.
    if (this.#ended || this.run.hasFailed) return
    this.#resend ??= new Resend(this.call.deadline, this.run.wasConnected)
    const delay = this.#resend.delayOf(reason)
    if (delay !== undefined) {
      this.#timer = setTimeout(() => this.#again(), delay)
      return
    }
    this.#ended = true
    this.run.failed(reason)
  }

  cancel(reason: Failure): void {
    if (this.#ended) return
    const isWaiting = this.#timer !== undefined
    clearTimeout(this.#timer)
    if (!isWaiting) return this.#session.cancel(this.#id, reason)
    this.#ended = true
    this.run.failed(reason)
  }

  #again(): void {
    this.#timer = undefined
    this.#session = this.run.open()
    this.#id = this.#session.begin(
      { ...this.head, timeoutMs: headOf(this.call, NO_ARGS).timeoutMs },
      NO_ARGS,
      this.payload,
      this,
    )
  }
}
