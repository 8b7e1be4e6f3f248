import {
  type handleServerStreamingCall,
  type handleUnaryCall,
  Metadata,
  type ServerUnaryCall,
  type ServerWritableStream,
} from '@grpc/grpc-js'
import { asFailure, Failure, failureToTrailer } from '../../wire/failure.js'
import type { Codec } from './definition.js'

/**
 * The one adapter between grpc-js and the handlers. A handler is an async function that returns or throws, or an
 * async generator that yields, returns or throws; it never sees a callback, a stream or a status.
 */
export interface Call {
  /** The address of the other end, for the log. */
  readonly peer: string
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

/** Told of faults of farpool itself: an error that is not a Failure. */
export type ReportFault = (error: unknown) => void

type Grpc = ServerUnaryCall<Uint8Array, Uint8Array> | ServerWritableStream<Uint8Array, Uint8Array>

class GrpcCall implements Call {
  readonly peer: string
  readonly deadline: number
  #finished = false
  #ended: Failure | undefined
  #listener: ((reason: Failure) => void) | undefined

  constructor(call: Grpc) {
    this.peer = call.getPeer()
    const deadline = call.getDeadline()
    this.deadline = typeof deadline === 'number' ? deadline : deadline.getTime()
    // Also emitted after a call has succeeded: hence #finished.
    call.on('cancelled', () => this.#end())
    if (call.cancelled) this.#end()
  }

  /** From here on nothing ends the call any more: its answer is on the way. */
  finish(): void {
    this.#finished = true
  }

  get ended(): boolean {
    return this.#ended !== undefined
  }

  onEnd(listener: (reason: Failure) => void): void {
    this.#listener = listener
    if (this.#ended) listener(this.#ended)
  }

  #end(): void {
    if (this.#finished || this.#ended) return
    this.#ended =
      Date.now() >= this.deadline
        ? new Failure('TASK_TIMEOUT', "the call's deadline passed before it ended")
        : new Failure('CANCELLED', 'the call was cancelled, or its client is gone')
    this.#listener?.(this.#ended)
  }
}

export function unary<Req, Res>(
  codec: Codec<Req, Res>,
  handler: UnaryHandler<Req, Res>,
  report: ReportFault,
): handleUnaryCall<Uint8Array, Uint8Array> {
  return async (grpcCall, callback) => {
    const call = new GrpcCall(grpcCall)
    try {
      const response = codec.encode(await handler(decode(codec, grpcCall.request), call))
      call.finish()
      callback(null, response)
    } catch (error) {
      call.finish()
      callback(statusOf(error, report))
    }
  }
}

export function serverStreaming<Req, Res>(
  codec: Codec<Req, Res>,
  handler: StreamHandler<Req, Res>,
  report: ReportFault,
): handleServerStreamingCall<Uint8Array, Uint8Array> {
  return async (grpcCall) => {
    const call = new GrpcCall(grpcCall)
    // A peer that resets the stream makes it fail; `cancelled` has told the handler already.
    grpcCall.on('error', () => {})
    try {
      for await (const response of handler(decode(codec, grpcCall.request), call)) {
        if (call.ended) break
        if (!grpcCall.write(codec.encode(response))) await drained(grpcCall)
      }
      call.finish()
      grpcCall.end()
    } catch (error) {
      call.finish()
      grpcCall.emit('error', statusOf(error, report))
    }
  }
}

/** Resolves when the stream takes more, or never will. */
const drained = (call: ServerWritableStream<Uint8Array, Uint8Array>): Promise<void> =>
  new Promise((resolve) => {
    const done = () => {
      call.off('drain', done)
      call.off('cancelled', done)
      call.off('close', done)
      resolve()
    }
    call.on('drain', done)
    call.on('cancelled', done)
    call.on('close', done)
    if (call.cancelled) done()
  })

function decode<Req>(codec: Codec<Req, unknown>, bytes: Uint8Array): Req {
  try {
    return codec.decode(bytes)
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    throw new Failure('BAD_REQUEST', `the request is not a ${codec.request}: ${why}`)
  }
}

function statusOf(error: unknown, report: ReportFault) {
  if (!(error instanceof Failure)) report(error)
  const { code, message, details } = failureToTrailer(asFailure(error))
  const metadata = new Metadata()
  metadata.set('grpc-status-details-bin', Buffer.from(details))
  return { code, details: message, metadata }
}
