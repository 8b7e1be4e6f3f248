import {
  type CallOptions,
  type ClientDuplexStream,
  type ClientReadableStream,
  connectivityState,
  credentials,
  Metadata,
  type ServiceError,
} from '@grpc/grpc-js'
import * as routing from '../proto/gen/farpool/routing/v1/routing.js'
import { OnError, PoolServiceClient, PoolServiceService } from '../proto/gen/farpool/v1/pool_service.js'
import { Status } from '../proto/gen/google/rpc/status.js'
import { Failure, statusToFailure } from '../wire/failure.js'
import { KEEPALIVE_MS, KEEPALIVE_TIMEOUT_MS } from '../wire/limits.js'
import { Code, type Reason } from '../wire/reason.js'
import { Connecting, type Rpc } from './connecting.js'
import { Resend } from './resend.js'
import type {
  ChunkOutcome,
  ChunksCall,
  FunctionCall,
  Lease,
  OpenPoolCall,
  Pending,
  Sink,
  Ticket,
  Transport,
} from './transport.js'

/** CallRequests go in, CallResponses come out. */
export type CallStream = ClientDuplexStream<Buffer, Buffer>

/** One RPC per call over grpc-js. */
export class GrpcTransport implements Transport {
  readonly #client: PoolServiceClient
  readonly #connecting: Connecting
  #wasConnected = false

  /** @param address `host:port`, `unix:/path`, or another name that grpc-js resolves. */
  constructor(address: string) {
    this.#client = new PoolServiceClient(address, credentials.createInsecure(), {
      // No wider window: WINDOW_BYTES says why. The server bounds what it sends; a second limit here could only lose what has been computed.
      'grpc.max_receive_message_length': -1,
      'grpc.max_send_message_length': -1,
      'grpc.keepalive_time_ms': KEEPALIVE_MS,
      'grpc.keepalive_timeout_ms': KEEPALIVE_TIMEOUT_MS,
      'grpc.enable_channelz': 0,
      // A server that was restarted is there again soon.
      'grpc.initial_reconnect_backoff_ms': 100,
      'grpc.max_reconnect_backoff_ms': 5_000,
    })
    this.#connecting = new Connecting(this.#client.getChannel())
  }

  apply({ deadline, ...call }: FunctionCall, sink: Sink): Ticket {
    const cancelled = new Cancellation()
    const rpc = this.#client.makeUnaryRequest(
      PoolServiceService.apply.path,
      (request: routing.ApplyRequest) => asBuffer(routing.ApplyRequest.encode(request).finish()),
      (bytes) => routing.ApplyResponse.decode(bytes),
      { ...call, args: [...call.args], requestId: '' },
      new Metadata(),
      callOptions(deadline),
      (error, response) => {
        this.#wasConnected ||= !error
        if (response) sink.settle(response.result, [])
        else sink.fail(cancelled.reason ?? this.#taskFailure(error, rpc))
      },
    )
    this.#connecting.bound(rpc)
    cancelled.onCancel = () => rpc.cancel()
    return cancelled
  }

  /** A request that was refused for a while is sent again as a whole: nothing of it has begun. */
  chunks(call: ChunksCall, onOutcome: (outcome: ChunkOutcome) => void): Pending<void> {
    const cancelled = new Cancellation()
    const resend = new Resend(call.deadline, () => this.wasConnected)
    const outcome = new Promise<void>((resolve, reject) => {
      const send = () => {
        const rpc = this.#connecting.bound(this.#imap(call))
        // A stream that fails ends too, behind its error.
        let isFailed = false
        let missing = call.chunks.length
        cancelled.onCancel = () => rpc.cancel()
        rpc.on('data', (frame: routing.IMapResponse) => {
          missing -= frame.outcomes.length
          for (const chunk of frame.outcomes) onOutcome(chunkOutcome(chunk))
        })
        rpc.on('error', (error: ServiceError) => {
          isFailed = true
          if (cancelled.reason) return reject(cancelled.reason)
          const failure = this.#taskFailure(error, rpc)
          const delay = resend.delayOf(failure)
          if (delay === undefined) return reject(failure)
          const timer = setTimeout(send, delay)
          cancelled.onCancel = () => {
            clearTimeout(timer)
            reject(cancelled.reason)
          }
        })
        rpc.on('end', () => {
          if (isFailed) return
          if (missing === 0) resolve()
          else reject(new Failure('INTERNAL', `the server ended the map without the outcomes of ${missing} chunks`))
        })
      }
      send()
    })
    return { outcome, cancel: (reason) => cancelled.cancel(reason) }
  }

  #imap({ deadline, failFast, ...call }: ChunksCall): ClientReadableStream<routing.IMapResponse> {
    return this.#client.makeServerStreamRequest(
      PoolServiceService.iMap.path,
      (request: routing.MapRequest) => asBuffer(routing.MapRequest.encode(request).finish()),
      (bytes) => routing.IMapResponse.decode(bytes),
      {
        ...call,
        args: [...call.args],
        chunks: [...call.chunks],
        ordered: false,
        onError: failFast ? OnError.ON_ERROR_FAIL_FAST : OnError.ON_ERROR_UNSPECIFIED,
        requestId: '',
      },
      new Metadata(),
      callOptions(deadline),
    )
  }

  /** Where the connection broke under a call that had been sent, the server may have run it. */
  #taskFailure(error: ServiceError | null, rpc: Rpc): Failure {
    const failure = failureOf(error)
    // Before a call has got a connection, its peer is the address that it was given.
    const isSent = rpc.getPeer() !== this.#client.getChannel().getTarget() && !this.#connecting.hasGivenUp(rpc)
    if (failure.reason !== 'CONNECTION_FAILED' || !isSent) return failure
    return new Failure('CONNECTION_LOST', `the connection broke while the call was under way: ${failure.message}`)
  }

  /** A new stream of calls; what goes through it is encoded. */
  callStream(): CallStream {
    return this.#connecting.bound(
      this.#client.makeBidiStreamRequest(
        PoolServiceService.call.path,
        (request: Buffer) => request,
        (response) => response,
      ),
    )
  }

  /** Whether there is a connection now. */
  get isConnected(): boolean {
    const isReady = this.#client.getChannel().getConnectivityState(false) === connectivityState.READY
    this.#wasConnected ||= isReady
    return isReady
  }

  get wasConnected(): boolean {
    return this.#wasConnected || this.isConnected
  }

  openPool(call: OpenPoolCall): Lease {
    const rpc: ClientReadableStream<unknown> = this.#client.makeServerStreamRequest(
      PoolServiceService.openPool.path,
      (request: routing.OpenPoolRequest) => asBuffer(routing.OpenPoolRequest.encode(request).finish()),
      PoolServiceService.openPool.responseDeserialize,
      { ...call, initargs: [...call.initargs] },
    )
    this.#connecting.bound(rpc)
    let ending = false
    const ended = new Promise<Failure | undefined>((resolve) => {
      rpc.on('error', (error: ServiceError) => resolve(ending ? undefined : failureOf(error)))
      rpc.on('end', () => resolve(undefined))
    })
    const opened = new Promise<{ pool: string; processes: number }>((resolve, reject) => {
      rpc.on('data', ({ event }: ReturnType<typeof PoolServiceService.openPool.responseDeserialize>) => {
        if (event?.$case === 'opened') resolve(event.value)
      })
      void ended.then((failure) => reject(failure ?? new Failure('POOL_CLOSED', 'the pool ended before it was open')))
    })
    const end = () => {
      ending = true
      rpc.cancel()
    }
    return { opened, ended, end }
  }

  async closePool(pool: string): Promise<void> {
    await this.#unary((done) => this.#client.closePool({ pool }, done))
  }

  async joinPool(pool: string): Promise<void> {
    await this.#unary((done) => this.#client.joinPool({ pool }, done))
  }

  async terminate(pool: string): Promise<void> {
    await this.#unary((done) => this.#client.terminate({ pool }, done))
  }

  serverInfo() {
    return this.#unary<Awaited<ReturnType<Transport['serverInfo']>>>((done) =>
      this.#client.getServerInfo({}, (error, info) => {
        this.#wasConnected ||= !error
        done(error, info)
      }),
    )
  }

  functions() {
    return this.#unary<Awaited<ReturnType<Transport['functions']>>>((done) => this.#client.listFunctions({}, done))
  }

  poolInfo(pool: string) {
    return this.#unary<Awaited<ReturnType<Transport['poolInfo']>>>((done) => this.#client.getPool({ pool }, done))
  }

  close(): void {
    this.#client.close()
  }

  #unary<T>(call: (done: (error: ServiceError | null, response: T) => void) => Rpc): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#connecting.bound(call((error, response) => (error ? reject(failureOf(error)) : resolve(response))))
    })
  }
}

/** A reason that came before, or comes after, there is something to cancel. */
class Cancellation {
  reason: Failure | undefined
  onCancel: () => void = () => {}

  cancel(reason: Failure): void {
    this.reason ??= reason
    this.onCancel()
  }
}

const callOptions = (deadline: number | undefined): CallOptions => (deadline === undefined ? {} : { deadline })

const asBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)

const chunkOutcome = ({ chunk, payload, failures }: routing.ChunkOutcome): ChunkOutcome => ({
  chunk,
  payload,
  failures: failures.map(({ item, status }) => ({
    item,
    failure: status ? statusToFailure(status) : new Failure('INTERNAL', 'the server sent a failure without a status'),
  })),
})

/** What grpc-js itself says, where no server of ours had the word. */
const TRANSPORT_REASONS: Readonly<Record<number, Reason>> = {
  [Code.CANCELLED]: 'CANCELLED',
  [Code.DEADLINE_EXCEEDED]: 'TASK_TIMEOUT',
  [Code.UNAVAILABLE]: 'CONNECTION_FAILED',
  // Our server says which limit; grpc-js's own says it only of a message that it did not let through.
  [Code.RESOURCE_EXHAUSTED]: 'PAYLOAD_TOO_LARGE',
  [Code.UNAUTHENTICATED]: 'UNAUTHENTICATED',
  [Code.PERMISSION_DENIED]: 'PERMISSION_DENIED',
}

/** The failure that a status of gRPC stands for. */
export function failureOf(error: ServiceError | null): Failure {
  if (!error) return new Failure('INTERNAL', 'the server sent neither a response nor an error')
  const [details] = error.metadata?.get('grpc-status-details-bin') ?? []
  if (Buffer.isBuffer(details)) return statusToFailure(Status.decode(details))
  const reason = TRANSPORT_REASONS[error.code] ?? 'INTERNAL'
  const message =
    reason === 'TASK_TIMEOUT' ? "the call's timeout passed before its result came" : error.details || error.message
  return new Failure(reason, message, { code: error.code })
}
