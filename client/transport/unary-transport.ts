import type {
  CallOptions,
  Client,
  ClientDuplexStream,
  ClientReadableStream,
  connectivityState,
  Metadata,
  MethodDefinition,
  ServiceError,
} from '@grpc/grpc-js'
import * as routing from '../../proto/gen/farpool/routing/v1/routing.js'
import { OnError } from '../../proto/gen/farpool/v1/pool_service.js'
import { mayUseProxy } from '../../wire/address.js'
import { halfway } from '../../wire/chunks.js'
import { asFailure, Failure, statusToFailure } from '../../wire/failure.js'
import { asBuffer, bytesOf } from '../../wire/framing/protobuf.js'
import { RPC_METHODS } from '../../wire/rpc-methods.js'
import { neverSent, withWholeTimeout } from '../../wire/timeout.js'
import type { ClientOptions } from '../options.js'
import {
  Connecting,
  FIRST_RECONNECT_MS,
  LONGEST_RECONNECT_MS,
  LOOKUP_MS,
  type Rpc,
  watchedCredentials,
} from './connecting.js'
import { grpcJs } from './grpc-js.js'
import { failureOf } from './grpc-status.js'
import { poolViewOf } from './pool-view.js'
import { atDeadline, Resend } from './resend.js'
import { clientTls } from './tls.js'
import { tokenCredentials } from './token.js'
import {
  boundTooLarge,
  type ChunkOutcome,
  type ChunksCall,
  type FunctionCall,
  isTooLarge,
  type Lease,
  type OpenPoolCall,
  type Pending,
  type Sink,
  type Ticket,
  type Transport,
  type TransportEvent,
} from './transport.js'

/** The path of an RPC, and how its messages are encoded and decoded. */
export type Method<Req, Res> = Pick<MethodDefinition<Req, Res>, 'path' | 'requestSerialize' | 'responseDeserialize'>

/** One RPC for each call, so that a proxy can spread the calls over several servers. */
export class UnaryTransport implements Transport {
  readonly #client: Client
  readonly #connecting: Connecting
  readonly #callOptions: CallOptions
  #wasConnected = false
  /** Resolves when the owned pool has ended, if there is one. */
  #leaseEnded: Promise<unknown> = Promise.resolve()
  onEvent?: (event: TransportEvent) => void
  /** The server's limit for one message, in bytes, 0 for none; undefined until it is known. */
  protected maxMessageBytes: number | undefined

  /**
   * @param address has been checked (wire/address.ts).
   * @throws Failure BAD_REQUEST for certificates that cannot be used.
   */
  constructor(address: string, { tls, token }: ClientOptions = {}) {
    const { Client } = grpcJs()
    this.#callOptions = token === undefined ? {} : { credentials: tokenCredentials(token) }
    this.#client = new Client(
      address,
      watchedCredentials(tls ? clientTls(address, tls === true ? {} : tls) : undefined),
      {
        // The receive window stays at Node's default; WINDOW_BYTES in wire/protocol.ts says why. The server limits the size
        // of its messages. A second limit here could only lose results that have been computed.
        'grpc.max_receive_message_length': -1,
        'grpc.max_send_message_length': -1,
        'grpc.enable_channelz': 0,
        'grpc.initial_reconnect_backoff_ms': FIRST_RECONNECT_MS,
        'grpc.max_reconnect_backoff_ms': LONGEST_RECONNECT_MS,
        'grpc.dns_min_time_between_resolutions_ms': LOOKUP_MS,
        // A TXT record could have calls sent again, and functions run twice.
        'grpc.service_config_disable_resolution': 1,
        'grpc.enable_http_proxy': mayUseProxy(address) ? 1 : 0,
      },
    )
    this.#connecting = new Connecting(this.#client.getChannel(), (event) => this.onEvent?.(event))
  }

  /** Whether there is a connection now. */
  get isConnected(): boolean {
    const isReady = this.#state === grpcJs().connectivityState.READY
    this.#wasConnected ||= isReady
    return isReady
  }

  get wasConnected(): boolean {
    return this.#wasConnected || this.isConnected
  }

  apply({ deadline, timeoutMs, ...call }: FunctionCall, sink: Sink): Ticket {
    const cancellation = new Cancellation()
    const stopTimer = this.#atDeadline({ deadline, timeoutMs }, cancellation)
    const rpc = this.#client.makeUnaryRequest(
      RPC_METHODS.apply.path,
      (request: routing.ApplyRequest) => asBuffer(routing.ApplyRequest.encode(request).finish()),
      (bytes) => routing.ApplyResponse.decode(bytes),
      { ...call, args: [...call.args], requestId: '' },
      this.#metadata(deadline),
      this.#callOptions,
      (error, response) => {
        stopTimer()
        this.#wasConnected ||= !error
        if (response) sink.settle(response.result, [])
        else sink.fail(withWholeTimeout(this.#failureOf(error, rpc, cancellation), timeoutMs))
      },
    )
    this.#connecting.bound(rpc)
    cancellation.onCancel = () => rpc.cancel()
    return cancellation
  }

  /** One RPC for all chunks; if they are too large for a message, one for each half, one after the other (T9). */
  chunks(call: ChunksCall, onOutcome: (outcome: ChunkOutcome) => void): Pending<void> {
    const cancellation = new Cancellation()
    const stopTimer = this.#atDeadline(call, cancellation)
    const send = async (chunks: readonly number[]): Promise<void> => {
      const payloads = chunks.flatMap((chunk) => call.chunks[chunk] ?? [])
      try {
        await this.#imap({ ...call, chunks: payloads }, cancellation, (outcome) =>
          onOutcome({ ...outcome, chunk: chunks[outcome.chunk] ?? 0 }),
        )
      } catch (thrown) {
        const failure = asFailure(thrown)
        const [chunk = 0] = chunks
        const final = isTooLarge(failure) ? boundTooLarge(call, await this.#limit(call, cancellation)) : failure
        if (final) throw chunks.length < call.chunks.length ? final.ofOneAmongMany() : final
        if (chunks.length === 1)
          return onOutcome({ chunk, payload: undefined, failures: [{ item: undefined, failure }] })
        const half = halfway(payloads.map(({ length }) => length))
        await send(chunks.slice(0, half))
        await send(chunks.slice(half))
      }
    }
    const outcome = send([...call.chunks.keys()])
    return { outcome: outcome.finally(stopTimer), cancel: (reason) => cancellation.cancel(reason) }
  }

  /** The most bytes of a message. A client with a pool of its own has not asked for them before. */
  async #limit({ pool, timeoutMs }: ChunksCall, cancellation: Cancellation): Promise<number> {
    if (this.maxMessageBytes === undefined) {
      const cancelled = new Promise<never>((_, reject) => {
        cancellation.onCancel = () =>
          reject(cancellation.reason && withWholeTimeout(neverSent(cancellation.reason), timeoutMs))
      })
      await Promise.race([this.serverInfo(pool), cancelled])
    }
    return this.maxMessageBytes || Number.POSITIVE_INFINITY
  }

  /** One RPC. If the server refuses it for now, it is sent again: no chunk has started (T6). */
  #imap(call: ChunksCall, cancellation: Cancellation, onOutcome: (outcome: ChunkOutcome) => void): Promise<void> {
    const bytes = bytesOf([...call.args, ...call.chunks], call.kwargs)
    const max = this.maxMessageBytes || Number.POSITIVE_INFINITY
    if (bytes > max) {
      const message = `the request takes ${bytes} bytes; the server takes messages of ${max}`
      return Promise.reject(new Failure('PAYLOAD_TOO_LARGE', message))
    }
    const resend = new Resend(call.deadline, this)
    const left = new Set(call.chunks.keys())
    return new Promise((resolve, reject) => {
      const send = () => {
        const rpc = this.#connecting.bound(this.#imapRpc(call))
        // 'end' follows 'error'.
        let hasFailed = false
        cancellation.onCancel = () => rpc.cancel()
        // It may have been cancelled between two RPCs.
        if (cancellation.reason) rpc.cancel()
        rpc.on('data', (frame: routing.IMapResponse) => {
          for (const chunk of frame.outcomes) if (left.delete(chunk.chunk)) onOutcome(chunkOutcome(chunk))
        })
        rpc.on('error', (error: ServiceError) => {
          hasFailed = true
          const reason = withWholeTimeout(this.#failureOf(error, rpc, cancellation), call.timeoutMs)
          const failure = left.size < call.chunks.length ? reason.ofOneAmongMany() : reason
          if (cancellation.reason || !resend.again(failure, send)) return reject(failure)
          cancellation.onCancel = () => {
            resend.stop()
            reject(cancellation.reason && withWholeTimeout(neverSent(cancellation.reason), call.timeoutMs))
          }
        })
        rpc.on('end', () => {
          if (hasFailed) return
          if (left.size === 0) return resolve()
          reject(new Failure('INTERNAL', `the server ended the call without an outcome for ${left.size} of its chunks`))
        })
      }
      send()
    })
  }

  openPool(call: OpenPoolCall): Lease {
    const rpc: ClientReadableStream<unknown> = this.#client.makeServerStreamRequest(
      RPC_METHODS.openPool.path,
      (request: routing.OpenPoolRequest) => asBuffer(routing.OpenPoolRequest.encode(request).finish()),
      RPC_METHODS.openPool.responseDeserialize,
      { ...call, initargs: [...call.initargs] },
      this.#metadata(),
      this.#callOptions,
    )
    this.#connecting.bound(rpc)
    let isEnding = false
    const ended = new Promise<Failure | undefined>((resolve) => {
      rpc.on('error', (error: ServiceError) => resolve(isEnding ? undefined : failureOf(error)))
      rpc.on('end', () => resolve(undefined))
    })
    const opened = new Promise<{ pool: string; processes: number }>((resolve, reject) => {
      rpc.on('data', ({ event }: ReturnType<typeof RPC_METHODS.openPool.responseDeserialize>) => {
        if (event?.$case === 'workerExited') {
          const { pid, exitCode, signal } = event.value
          this.onEvent?.({ kind: 'workerExited', exit: { pid, exitCode, signal: signal || undefined } })
        }
        if (event?.$case !== 'opened') return
        // An idle pool does not keep the program alive. It ends with the program.
        this.#connecting.unref(rpc)
        resolve(event.value)
      })
      void ended.then((failure) => reject(failure ?? new Failure('POOL_CLOSED', 'the pool ended before it was open')))
    })
    const end = () => {
      isEnding = true
      rpc.cancel()
    }
    this.#leaseEnded = ended
    return { opened, ended, end }
  }

  async closePool(pool: string): Promise<void> {
    this.#connecting.holdUntil(this.#leaseEnded)
    await this.#ask(RPC_METHODS.closePool, { pool }, true)
  }

  async terminate(pool: string): Promise<void> {
    this.#connecting.holdUntil(this.#leaseEnded)
    await this.#ask(RPC_METHODS.terminate, { pool }, true)
  }

  async serverInfo(pool: string) {
    const info = await this.#ask(RPC_METHODS.getServerInfo, { pool })
    this.#wasConnected = true
    this.maxMessageBytes = info.maxMessageBytes
    return info
  }

  async functions(pool: string) {
    return (await this.#ask(RPC_METHODS.listFunctions, { pool })).functions
  }

  async poolInfo(pool: string) {
    return poolViewOf(await this.#ask(RPC_METHODS.getPool, { pool }))
  }

  close(): void {
    this.#client.close()
    this.#connecting.close()
  }

  /** Opens a bidirectional stream. */
  protected openStream<Req, Res>(method: Method<Req, Res>): ClientDuplexStream<Req, Res> {
    const { path, requestSerialize, responseDeserialize } = method
    return this.#connecting.bound(
      this.#client.makeBidiStreamRequest(
        path,
        requestSerialize,
        responseDeserialize,
        this.#metadata(),
        this.#callOptions,
      ),
    )
  }

  /** Cancels an RPC that the server has not ended at its deadline. */
  #atDeadline(call: Pick<FunctionCall, 'deadline' | 'timeoutMs'>, cancellation: Cancellation): () => void {
    return atDeadline(
      call,
      (reason) => cancellation.cancel(reason),
      () => this.isConnected,
    )
  }

  #imapRpc({ deadline, failFast, ...call }: ChunksCall): ClientReadableStream<routing.IMapResponse> {
    return this.#client.makeServerStreamRequest(
      RPC_METHODS.iMap.path,
      (request: routing.MapRequest) => asBuffer(routing.MapRequest.encode(request).finish()),
      (bytes) => routing.IMapResponse.decode(bytes),
      {
        ...call,
        args: [...call.args],
        chunks: [...call.chunks],
        ordered: false,
        onError: failFast ? OnError.ON_ERROR_FAIL_FAST : OnError.ON_ERROR_UNSPECIFIED,
        allowPartial: true,
        requestId: '',
      },
      this.#metadata(deadline),
      this.#callOptions,
    )
  }

  /**
   * Sends a request that has one response. It is read as a stream of responses: if a faulty server sends two, grpc-js
   * never calls back a unary RPC.
   * @param changesState if the connection breaks, the server may have done what the request asks for.
   */
  async #ask<Req, Res>(method: Method<Req, Res>, request: Req, changesState = false): Promise<Res> {
    const { path, requestSerialize, responseDeserialize } = method
    if (this.#state === grpcJs().connectivityState.SHUTDOWN)
      throw new Failure('POOL_CLOSED', 'the pool has been closed')
    const rpc = this.#client.makeServerStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      request,
      this.#metadata(),
      this.#callOptions,
    )
    this.#connecting.bound(rpc)
    return new Promise((resolve, reject) => {
      let first: Res | undefined
      rpc.on('data', (response: Res) => {
        first ??= response
      })
      rpc.on('error', (error: ServiceError) => reject(changesState ? this.#taskFailure(error, rpc) : failureOf(error)))
      rpc.on('end', () => (first === undefined ? reject(failureOf(null)) : resolve(first)))
    })
  }

  /**
   * The headers of an RPC, with the timeout of a call as gRPC has it. A deadline in the options of grpc-js would end the call
   * here as well, before the server's answer, which says why.
   */
  #metadata(deadline?: number): Metadata {
    const metadata = new (grpcJs().Metadata)({ waitForReady: this.#connecting.hasFailed })
    if (deadline === undefined) return metadata
    const ms = Math.max(1, Math.ceil(deadline - Date.now()))
    // The number has at most eight digits.
    metadata.set('grpc-timeout', ms < 1e8 ? `${ms}m` : `${Math.ceil(ms / 1000)}S`)
    return metadata
  }

  get #state(): connectivityState {
    return this.#client.getChannel().getConnectivityState(false)
  }

  #failureOf(error: ServiceError | null, rpc: Rpc, { reason }: Cancellation): Failure {
    if (!reason) return this.#taskFailure(error, rpc)
    return this.#wasSent(rpc) ? reason : neverSent(reason)
  }

  /** While an RPC has no connection, getPeer() is the target of the channel. */
  #wasSent(rpc: Rpc): boolean {
    return rpc.getPeer() !== this.#client.getChannel().getTarget() && !this.#connecting.hasGivenUp(rpc)
  }

  /** The failure of an RPC that changes something: if the connection broke after it was sent, it may have taken effect (T5). */
  #taskFailure(error: ServiceError | null, rpc: Rpc): Failure {
    const failure = failureOf(error)
    if (!this.#wasSent(rpc) || failure.reason !== 'CONNECTION_FAILED') return failure
    return new Failure('CONNECTION_LOST', `the connection broke while the call was under way: ${failure.message}`)
  }
}

/** Remembers the first reason for which a request is cancelled; `onCancel` changes while the request proceeds. */
class Cancellation implements Ticket {
  reason: Failure | undefined
  onCancel: () => void = () => {}

  cancel(reason: Failure): void {
    this.reason ??= reason
    this.onCancel()
  }
}

const chunkOutcome = ({ chunk, payload, failures }: routing.ChunkOutcome): ChunkOutcome => ({
  chunk,
  payload,
  failures: failures.map(({ item, status }) => ({
    item,
    failure: status ? statusToFailure(status) : new Failure('INTERNAL', 'the server sent a failure without a status'),
  })),
})
