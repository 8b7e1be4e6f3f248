import type { EventEmitter } from 'node:events'
import {
  type handleBidiStreamingCall,
  type handleServerStreamingCall,
  type handleUnaryCall,
  Metadata,
  type ServerDuplexStream,
  type ServerWritableStream,
} from '@grpc/grpc-js'
import { asFailure, Failure, failureToTrailer } from '../../wire/failure.js'
import { MAX_TIMER_MS, UNSENT_BYTES } from '../../wire/protocol.js'
import type { Reason } from '../../wire/reason.js'
import type { Account } from '../limits/memory-budget.js'
import { UNSENT_COPIES } from '../limits/memory-budget.js'
import type { Codec } from './definition.js'

/** The call that is answered. */
interface Answered {
  readonly client: Account | string
  readonly ended: unknown
  /** Called when it ends. */
  wake: (() => void) | undefined
}

/** The messages of an answer that have not been sent: few, by their bytes. grpc-js counts messages, and waits at 16. */
export class Outgoing {
  #unsent = 0
  #isOver = false
  #wake: (() => void) | undefined

  constructor(
    private readonly stream: ServerWritableStream<Uint8Array, Uint8Array> | ServerDuplexStream<Uint8Array, Uint8Array>,
    private readonly call: Answered,
  ) {
    call.wake = () => this.#wake?.()
    stream.on('drain', () => this.#wake?.())
    for (const event of ['cancelled', 'close']) stream.on(event, () => this.#end())
  }

  /** Resolves when the stream takes more, or never will. */
  async write(message: Uint8Array): Promise<void> {
    if (this.#isOver || this.call.ended || this.stream.cancelled) return
    this.#count(message.length)
    let takesMore = this.stream.write(message, () => {
      if (this.#isOver) return
      this.#count(-message.length)
      if (this.#unsent < UNSENT_BYTES) this.#wake?.()
    })
    while ((!takesMore || this.#unsent >= UNSENT_BYTES) && !this.#isOver && !this.call.ended) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
      this.#wake = undefined
      takesMore = !this.stream.writableNeedDrain
    }
  }

  #count(bytes: number): void {
    this.#unsent += bytes
    const { client } = this.call
    if (typeof client !== 'string') client.addUnread(UNSENT_COPIES * bytes)
  }

  #end(): void {
    if (this.#isOver) return
    this.#count(-this.#unsent)
    this.#isOver = true
    this.#wake?.()
  }
}

/**
 * The one adapter between grpc-js and the handlers. A handler is an async function that returns or throws, or an
 * async generator that yields, returns or throws; it never sees a callback, a stream or a status.
 */
export interface Call {
  /** Its connection, as a client of pools. */
  readonly client: Account | string
  /** Counts results that wait for the rest of the answer, until the call ends. */
  hold(bytes: number): void
  /** The same of results that wait for their reader: where it does not come, no more tasks of this client begin. */
  holdUnread(bytes: number): void
  /** Unix time in milliseconds; Infinity for none. */
  readonly deadline: number
  /**
   * Calls back once if the call ends before its handler does: it was cancelled, its deadline passed, its client is
   * gone. At once if that has happened already. A later listener takes the place of the one before.
   */
  onEnd(listener: (reason: Failure) => void): void
}

export type UnaryHandler<Req, Res> = (request: Req, call: Call) => Promise<Res>
export type StreamHandler<Req, Res> = (request: Req, call: Call) => AsyncIterable<Res>
export type DuplexHandler<Req, Res> = (requests: Requests<Req>, call: Call) => AsyncIterable<Res>

/** The messages of a client, as they come. */
export interface Requests<Req> {
  /** `end`: the client sends no more. `fail`: a message was no message, or `message` threw. */
  listen(listeners: { message(request: Req): void; end(): void; fail(error: unknown): void }): void
  /** Reads no more until `resume`: the client's window fills, and it has to wait. */
  pause(): void
  resume(): void
}

/** What the adapter needs beside a codec and a handler. */
export interface Edge {
  readonly maxMessageBytes: number
  /** Told of faults of farpool itself: an error that is not a Failure. */
  report(error: unknown): void
  /** Told of each message that a handler is about to get: the only one of its call, or one of many. */
  taken(message: Uint8Array, isOnly: boolean): void
  /** The connection of this address, as a client of pools. */
  client(peer: string): Account | string
}

/** How long before a deadline the call is ended, in milliseconds. */
const EARLY_MS = 2

/** What the calls of every kind have in common. */
interface Grpc extends EventEmitter {
  readonly cancelled: boolean
  getPeer(): string
  getDeadline(): Date | number
}

class GrpcCall implements Call {
  readonly client: Account | string
  readonly deadline: number
  #held = 0
  #unread = 0
  #finished = false
  #ended: Failure | undefined
  readonly #timer: NodeJS.Timeout | undefined
  #listener: ((reason: Failure) => void) | undefined

  constructor(call: Grpc, edge: Edge) {
    this.client = edge.client(call.getPeer())
    const deadline = call.getDeadline()
    this.deadline = typeof deadline === 'number' ? deadline : deadline.getTime()
    if (this.deadline < Number.POSITIVE_INFINITY) {
      // A moment before grpc-js would answer by itself, without a reason.
      const left = Math.min(MAX_TIMER_MS, Math.max(0, this.deadline - Date.now() - EARLY_MS))
      this.#timer = setTimeout(() => this.#end('TASK_TIMEOUT', "the call's deadline passed before it ended"), left)
    }
    // Also emitted after a call has succeeded: hence #finished.
    const cancelled = () => this.#end('CANCELLED', 'the call was cancelled, or its client is gone')
    call.on('cancelled', cancelled)
    if (call.cancelled) cancelled()
  }

  /** From here on nothing ends the call any more: its answer is on the way. */
  finish(): void {
    this.#finished = true
    clearTimeout(this.#timer)
    this.hold(-this.#held)
    this.holdUnread(-this.#unread)
  }

  hold(bytes: number): void {
    this.#held += bytes
    if (typeof this.client !== 'string') this.client.add(bytes)
  }

  holdUnread(bytes: number): void {
    this.#unread += bytes
    if (typeof this.client !== 'string') this.client.addUnread(bytes)
  }

  /** Why it ended before its handler did. */
  get ended(): Failure | undefined {
    return this.#ended
  }

  /** Called when it does. */
  wake: (() => void) | undefined

  onEnd(listener: (reason: Failure) => void): void {
    this.#listener = listener
    if (this.#ended) listener(this.#ended)
  }

  #end(reason: Reason, message: string): void {
    clearTimeout(this.#timer)
    if (this.#finished || this.#ended) return
    this.#ended = new Failure(reason, message)
    this.#listener?.(this.#ended)
    this.wake?.()
  }
}

export function unary<Req, Res>(
  codec: Codec<Req, Res>,
  handler: UnaryHandler<Req, Res>,
  edge: Edge,
): handleUnaryCall<Uint8Array, Uint8Array> {
  return async (grpcCall, callback) => {
    const call = new GrpcCall(grpcCall, edge)
    try {
      const response = codec.encode(await handler(decode(codec, grpcCall.request, edge, true), call))
      call.finish()
      callback(null, response)
    } catch (error) {
      call.finish()
      callback(statusOf(error, edge))
    }
  }
}

export function serverStreaming<Req, Res>(
  codec: Codec<Req, Res>,
  handler: StreamHandler<Req, Res>,
  edge: Edge,
): handleServerStreamingCall<Uint8Array, Uint8Array> {
  return async (grpcCall) => {
    const call = new GrpcCall(grpcCall, edge)
    // A peer that resets the stream makes it fail; `cancelled` has told the handler already.
    grpcCall.on('error', () => {})
    const responses = async function* () {
      yield* handler(decode(codec, grpcCall.request, edge, true), call)
    }
    await respond(grpcCall, call, codec.encode, responses(), edge)
  }
}

export function duplex<Req, Res>(
  codec: Codec<Req, Res>,
  handler: DuplexHandler<Req, Res>,
  edge: Edge,
): handleBidiStreamingCall<Uint8Array, Uint8Array> {
  return async (grpcCall) => {
    const call = new GrpcCall(grpcCall, edge)
    grpcCall.on('error', () => {})
    const requests: Requests<Req> = {
      listen({ message, end, fail }) {
        grpcCall.on('end', end)
        grpcCall.on('data', (bytes: Uint8Array) => {
          try {
            message(decode(codec, bytes, edge, false))
          } catch (error) {
            fail(error)
          }
        })
      },
      pause: () => grpcCall.pause(),
      resume: () => grpcCall.resume(),
    }
    await respond(grpcCall, call, codec.encode, handler(requests, call), edge)
  }
}

/** Writes what a handler yields, as fast as the other end reads it, and then its end. */
async function respond<Res>(
  grpcCall: ServerWritableStream<Uint8Array, Uint8Array> | ServerDuplexStream<Uint8Array, Uint8Array>,
  call: GrpcCall,
  encode: (response: Res) => Uint8Array,
  responses: AsyncIterable<Res>,
  edge: Edge,
): Promise<void> {
  const out = new Outgoing(grpcCall, call)
  try {
    for await (const response of responses) {
      await out.write(encode(response))
      if (call.ended) break
    }
    // Not as if all had been said.
    if (call.ended) throw call.ended
    call.finish()
    grpcCall.end()
  } catch (error) {
    call.finish()
    grpcCall.emit('error', statusOf(error, edge))
  }
}

function decode<Req>(
  codec: Codec<Req, unknown>,
  bytes: Uint8Array,
  { maxMessageBytes, taken }: Edge,
  isOnly: boolean,
): Req {
  taken(bytes, isOnly)
  if (bytes.length > maxMessageBytes) {
    const message = `the request takes ${bytes.length} bytes; a message may take ${maxMessageBytes}`
    throw new Failure('PAYLOAD_TOO_LARGE', message)
  }
  try {
    return codec.decode(bytes)
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    throw new Failure('BAD_REQUEST', `the request is not a ${codec.request}: ${why}`)
  }
}

function statusOf(error: unknown, edge: Edge) {
  if (!(error instanceof Failure)) edge.report(error)
  return failureStatus(asFailure(error))
}

/** A failure as grpc-js sends it. */
export function failureStatus(failure: Failure) {
  const { code, message, details } = failureToTrailer(failure)
  const metadata = new Metadata()
  metadata.set('grpc-status-details-bin', Buffer.from(details))
  // For clients with a retry policy: gRFC A6.
  if (failure.retryDelayMs !== undefined) metadata.set('grpc-retry-pushback-ms', String(failure.retryDelayMs))
  return { code, details: message, metadata }
}
