import type { ServiceError } from '@grpc/grpc-js'
import type { ItemFailure } from '../proto/gen/farpool/routing/v1/routing.js'
import { CallRequestWriter, type GroupHead, readOutcomes } from '../wire/call-codec.js'
import { Failure, statusToFailure } from '../wire/failure.js'
import { FRAME_CALLS, FRAME_TARGET_BYTES, STREAM_IDLE_MS } from '../wire/limits.js'
import { type CallStream, failureOf } from './grpc-transport.js'
import { type ChunkFailure, NO_OUTCOME, type Sink } from './transport.js'

const NO_FAILURES: readonly ChunkFailure[] = []

/**
 * One stream and the calls in it.
 *   open    takes calls
 *   ending  takes none; the server completes what it has, then ends the stream
 *   ended   over; calls that had no outcome by then have failed
 */
export class Session {
  #state: 'open' | 'ending' | 'ended' = 'open'
  readonly #open = new Map<number, Sink>()
  #nextId = 1
  /** Messages that wait for the stream to take them. */
  readonly #messages: Buffer[] = []
  /** The message being filled; it leaves at the end of this turn, or when the stream takes more. */
  #message: CallRequestWriter | undefined
  #scheduled = false
  #blocked = false
  #idle: NodeJS.Timeout | undefined

  constructor(private readonly stream: CallStream) {
    stream.on('data', (response: Buffer) => {
      readOutcomes(response, (id, payload, failures) => this.#settle(id, payload, failures))
    })
    stream.on('error', (error: ServiceError) => this.#ended(failureOf(error)))
    // A server that drains ends the stream when it has answered all that it received; the rest it has never seen.
    stream.on('end', () => this.#ended(new Failure('SERVER_DRAINING', 'the server has ended the stream')))
    stream.on('drain', () => {
      this.#blocked = false
      this.#flush()
    })
  }

  get usable(): boolean {
    return this.#state === 'open'
  }

  /** Starts a call; returns its id. */
  begin(head: GroupHead, args: readonly Uint8Array[], chunk: Uint8Array | undefined, sink: Sink): number {
    const id = this.#nextId++
    this.#open.set(id, sink)
    if (this.#idle) this.#stopIdling()
    const message = this.#fill()
    if (!message.head || !isSame(message.head, head)) message.begin(head)
    message.add(id, args, chunk)
    return id
  }

  /** Gives a call up: it fails with the reason at once; one that has ended stays as it is. */
  cancel(id: number, reason: Failure): void {
    const sink = this.#open.get(id)
    if (!sink) return
    this.#open.delete(id)
    if (this.#state === 'open') this.#fill().cancel(id)
    sink.fail(reason)
    this.#rest()
  }

  /** Ends at once; what the server still has of it is cancelled there. */
  close(): void {
    this.#stopIdling()
    if (this.#state !== 'ended') this.stream.cancel()
  }

  #settle(id: number, payload: Uint8Array | undefined, failures: readonly ItemFailure[]): void {
    const sink = this.#open.get(id)
    if (!sink) return
    this.#open.delete(id)
    sink.settle(payload, failures.length === 0 ? NO_FAILURES : failures.map(failureIn))
    this.#rest()
  }

  #ended(reason: Failure): void {
    this.#state = 'ended'
    this.#stopIdling()
    const sinks = [...this.#open.values()]
    this.#open.clear()
    for (const sink of sinks) sink.fail(reason)
  }

  /** Without calls the stream is ended after a while; a program that has nothing else to do can then end. */
  #rest(): void {
    if (this.#open.size > 0 || this.#state !== 'open') return
    if (this.#idle) this.#idle.refresh()
    else this.#idle = setTimeout(() => this.#end(), STREAM_IDLE_MS)
  }

  #stopIdling(): void {
    clearTimeout(this.#idle)
    this.#idle = undefined
  }

  /** Takes no more calls. */
  #end(): void {
    // Words that the server has not taken for so long are lost, and with them cancellations: it has to hear otherwise.
    if (this.#message || this.#messages.length > 0) return this.close()
    this.#state = 'ending'
    this.stream.end()
  }

  #fill(): CallRequestWriter {
    const message = this.#message
    if (message && (message.length >= FRAME_TARGET_BYTES || message.calls >= FRAME_CALLS)) this.#cut(message)
    this.#message ??= new CallRequestWriter()
    if (!this.#scheduled) {
      this.#scheduled = true
      queueMicrotask(() => {
        this.#scheduled = false
        this.#flush()
      })
    }
    return this.#message
  }

  #cut(message: CallRequestWriter): void {
    this.#messages.push(message.finish())
    this.#message = undefined
  }

  #flush(): void {
    if (this.#blocked) return
    if (this.#message) this.#cut(this.#message)
    while (this.#messages.length > 0 && !this.#blocked && this.#state === 'open') {
      const message = this.#messages.shift()
      if (message) this.#blocked = !this.stream.write(message)
    }
  }
}

const failureIn = ({ item, status }: ItemFailure): ChunkFailure => ({
  item,
  failure: status ? statusToFailure(status) : NO_OUTCOME,
})

/** Whether calls of these groups can share one. Bound values are compared by identity. */
const isSame = (a: GroupHead, b: GroupHead): boolean =>
  a === b ||
  (a.function === b.function &&
    a.pool === b.pool &&
    a.args.length === 0 &&
    b.args.length === 0 &&
    a.kwargs === b.kwargs &&
    a.replyKind === b.replyKind &&
    a.retries === b.retries &&
    a.spread === b.spread &&
    a.onError === b.onError &&
    a.timeoutMs === b.timeoutMs)
