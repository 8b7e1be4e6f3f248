import type { EventEmitter } from 'node:events'
import {
  type handleBidiStreamingCall,
  type handleServerStreamingCall,
  type handleUnaryCall,
  Metadata,
  type MethodDefinition,
  type ServerDuplexStream,
  type ServerWritableStream,
} from '@grpc/grpc-js'
import { asFailure, Failure, failureToTrailer } from '../../wire/failure.js'
import { asBuffer, Pieces } from '../../wire/framing/protobuf.js'
import { MAX_TIMER_MS, UNSENT_BYTES } from '../../wire/protocol.js'
import { timeoutPassed } from '../../wire/timeout.js'
import type { Caller, EndableCall } from '../auth/identity.js'
import { type Account, UNSENT_COPIES } from '../limits/memory-budget.js'
import type { InboundMemory } from './inbound.js'

/**
 * The one adapter between grpc-js and the handlers of RPCs. A handler is an async function that returns or throws, or an
 * async generator that yields, returns or throws. It never sees a callback, a stream or a status.
 */
export type UnaryHandler<Req, Res> = (request: Req, call: Call) => Promise<Res>
export type StreamHandler<Req, Res> = (request: Req, call: Call) => AsyncIterable<Res>
/** Yields encoded messages. */
export type DuplexHandler<Req> = (requests: Requests<Req>, call: Call) => AsyncIterable<Pieces>

/** An encoded message. */
type Message = Uint8Array | Pieces

/** What a handler knows of its call. */
export interface Call {
  readonly caller: Caller
  /** The account of its connection. */
  readonly account: Account
  /** Unix time in milliseconds; Infinity for none. */
  readonly deadline: number
  /** Counts results that wait for the rest of the answer, until the call ends. */
  hold(bytes: number): void
  /** As `hold`, for results that wait to be read: while too many do, no more tasks of this client begin. */
  holdUnread(bytes: number): void
  /**
   * Calls back once if the call ends before its handler does: it was cancelled, its deadline passed, its client is gone,
   * or its token was revoked. At once if that has happened already. A later listener replaces an earlier one.
   */
  onEnd(listener: (reason: Failure) => void): void
}

/** The messages of a client stream, as they arrive. */
export interface Requests<Req> {
  listen(listener: RequestListener<Req>): void
  /** Stops reading until `resume`: the client's window fills, and the client has to wait. */
  pause(): void
  resume(): void
}

export interface RequestListener<Req> {
  message(request: Req): void
  /** The client sends no more messages. */
  end(): void
  /** A message could not be decoded, or `message` threw. */
  fail(error: unknown): void
}

export interface RequestCodec<Req> {
  /** The name of the request message, for error messages. */
  readonly request: string
  /** Throws an Error that says what is wrong with the message. */
  readonly decode: (bytes: Uint8Array) => Req
}

export interface Codec<Req, Res> extends RequestCodec<Req> {
  readonly encode: (response: Res) => Uint8Array
}

/** What the adapter needs of the server. */
export interface AdapterOptions {
  readonly maxMessageBytes: number
  /** Reports an error that is not a Failure: a fault of farpool itself. */
  report(error: unknown): void
  readonly memory: InboundMemory
}

/** A call is ended this long before its deadline, in milliseconds, so that its answer says why. */
const EARLY_MS = 2

/** A client that cancels a call at most this long before its deadline, by the server's clock, has seen it pass. */
const CLOCKS_MS = 20

/** What all kinds of calls of grpc-js have in common. */
interface GrpcJsCall extends EventEmitter {
  readonly cancelled: boolean
  readonly metadata: Metadata
  getDeadline(): Date | number
}

class ServerCall implements Call, EndableCall {
  readonly caller: Caller
  readonly account: Account
  readonly deadline: number
  #held = 0
  #unread = 0
  #isFinished = false
  /** How long it may take; 0 for any time. */
  #limitMs = 0
  #ended: Failure | undefined
  readonly #timer: NodeJS.Timeout | undefined
  #listener: ((reason: Failure) => void) | undefined
  /** Called when the call ends before its handler. */
  wake: (() => void) | undefined

  constructor(call: GrpcJsCall, options: AdapterOptions) {
    this.caller = options.memory.callerOf(call.metadata)
    this.account = this.caller.account
    const deadline = call.getDeadline()
    this.deadline = typeof deadline === 'number' ? deadline : deadline.getTime()
    if (this.deadline < Number.POSITIVE_INFINITY) {
      this.#limitMs = Math.max(0, this.deadline - Date.now())
      const left = Math.min(MAX_TIMER_MS, Math.max(0, this.#limitMs - EARLY_MS))
      this.#timer = setTimeout(() => this.end(timeoutPassed(this.#limitMs)), left)
    }
    // grpc-js emits this after successful calls too: hence #isFinished.
    const cancelled = () => {
      const isLate = Date.now() >= this.deadline - CLOCKS_MS
      const gone = () => new Failure('CANCELLED', 'the call was cancelled, or its client is gone')
      this.end(isLate ? timeoutPassed(this.#limitMs) : gone())
    }
    call.on('cancelled', cancelled)
    if (call.cancelled) cancelled()
    this.caller.credential.add(this)
  }

  /** Why it ended before its handler did. */
  get ended(): Failure | undefined {
    return this.#ended
  }

  /** The answer is on its way: nothing ends the call any more. */
  finish(): void {
    this.#isFinished = true
    this.caller.credential.remove(this)
    clearTimeout(this.#timer)
    this.hold(-this.#held)
    this.holdUnread(-this.#unread)
  }

  hold(bytes: number): void {
    this.#held += bytes
    this.account.add(bytes)
  }

  holdUnread(bytes: number): void {
    this.#unread += bytes
    this.account.addUnread(bytes)
  }

  onEnd(listener: (reason: Failure) => void): void {
    this.#listener = listener
    if (this.#ended) listener(this.#ended)
  }

  end(reason: Failure): void {
    clearTimeout(this.#timer)
    if (this.#isFinished || this.#ended) return
    this.#ended = reason
    this.#listener?.(reason)
    this.wake?.()
  }
}

/** A method whose messages grpc-js does not decode: the functions below do, so that a malformed message gets a reason. */
export const bytesOnly = ({
  path,
  requestStream,
  responseStream,
}: Pick<MethodDefinition<never, never>, 'path' | 'requestStream' | 'responseStream'>): MethodDefinition<
  Uint8Array,
  Message
> => ({
  path,
  requestStream,
  responseStream,
  requestSerialize: asBuffer,
  requestDeserialize: (bytes) => bytes,
  responseSerialize: joined,
  responseDeserialize: (bytes) => bytes,
})

const joined = (message: Message): Buffer => (message instanceof Pieces ? message.joined() : asBuffer(message))

export function unary<Req, Res>(
  codec: Codec<Req, Res>,
  handler: UnaryHandler<Req, Res>,
  options: AdapterOptions,
): handleUnaryCall<Uint8Array, Message> {
  return async (grpcCall, callback) => {
    const call = new ServerCall(grpcCall, options)
    try {
      checkNotRevoked(call)
      const response = codec.encode(await handler(decode(codec, grpcCall.request, options, true), call))
      call.finish()
      callback(null, response)
    } catch (error) {
      call.finish()
      callback(statusOf(error, options))
    }
  }
}

export function serverStreaming<Req, Res>(
  codec: Codec<Req, Res>,
  handler: StreamHandler<Req, Res>,
  options: AdapterOptions,
): handleServerStreamingCall<Uint8Array, Message> {
  return async (grpcCall) => {
    const call = new ServerCall(grpcCall, options)
    const responses = async function* () {
      checkNotRevoked(call)
      const request = decode(codec, grpcCall.request, options, true)
      for await (const response of handler(request, call)) yield codec.encode(response)
    }
    await respond(grpcCall, call, responses(), options)
  }
}

export function duplex<Req>(
  codec: RequestCodec<Req>,
  handler: DuplexHandler<Req>,
  options: AdapterOptions,
): handleBidiStreamingCall<Uint8Array, Message> {
  return async (grpcCall) => {
    const call = new ServerCall(grpcCall, options)
    const requests: Requests<Req> = {
      listen(listener) {
        grpcCall.on('end', () => listener.end())
        grpcCall.on('data', (bytes: Uint8Array) => {
          try {
            listener.message(decode(codec, bytes, options, false))
          } catch (error) {
            listener.fail(error)
          }
        })
      },
      pause: () => grpcCall.pause(),
      resume: () => grpcCall.resume(),
    }
    await respond(grpcCall, call, handler(requests, call), options)
  }
}

/** The token may have been revoked while the request came. */
function checkNotRevoked({ ended }: ServerCall): void {
  if (ended?.reason === 'UNAUTHENTICATED') throw ended
}

type ResponseStream = ServerWritableStream<Uint8Array, Message> | ServerDuplexStream<Uint8Array, Message>

/** Writes what a handler yields, as fast as the peer reads it, and then the status. */
async function respond(
  grpcCall: ResponseStream,
  call: ServerCall,
  responses: AsyncIterable<Message>,
  options: AdapterOptions,
): Promise<void> {
  // A peer that resets the stream makes it fail. The handler hears of that by `cancelled`.
  grpcCall.on('error', () => {})
  const writer = new ResponseWriter(grpcCall, call)
  try {
    for await (const response of responses) {
      await writer.write(response)
      if (call.ended) break
    }
    // It must not look as if everything had been sent.
    if (call.ended) throw call.ended
    call.finish()
    grpcCall.end()
  } catch (error) {
    call.finish()
    grpcCall.emit('error', statusOf(error, options))
  }
}

/** Bounds the unsent bytes of a response stream. grpc-js itself counts messages, and asks to wait at 16. */
class ResponseWriter {
  #unsent = 0
  #isOver = false
  #wake: (() => void) | undefined

  constructor(
    private readonly stream: ResponseStream,
    private readonly call: ServerCall,
  ) {
    call.wake = () => this.#wake?.()
    stream.on('drain', () => this.#wake?.())
    for (const event of ['cancelled', 'close']) stream.on(event, () => this.#end())
  }

  /** Resolves when the stream takes more, or never will. */
  async write(message: Message): Promise<void> {
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
    this.call.account.addUnread(UNSENT_COPIES * bytes)
  }

  #end(): void {
    if (this.#isOver) return
    this.#count(-this.#unsent)
    this.#isOver = true
    this.#wake?.()
  }
}

function decode<Req>(
  codec: RequestCodec<Req>,
  bytes: Uint8Array,
  { maxMessageBytes, memory }: AdapterOptions,
  isOnly: boolean,
): Req {
  memory.taken(bytes, isOnly)
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

function statusOf(error: unknown, options: AdapterOptions) {
  if (!(error instanceof Failure)) options.report(error)
  return grpcStatus(asFailure(error))
}

/** A failure as the status object that grpc-js sends. */
export function grpcStatus(failure: Failure) {
  const { code, message, details } = failureToTrailer(failure)
  const metadata = new Metadata()
  metadata.set('grpc-status-details-bin', Buffer.from(details))
  // For clients with a retry policy: gRFC A6.
  if (failure.retryDelayMs !== undefined) metadata.set('grpc-retry-pushback-ms', String(failure.retryDelayMs))
  return { code, details: message, metadata }
}
