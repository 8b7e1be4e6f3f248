import {
  type CallOptions,
  type Client,
  type ClientDuplexStream,
  type ClientOptions,
  type ClientReadableStream,
  type ClientUnaryCall,
  credentials,
  Metadata,
  makeGenericClientConstructor,
  type ServiceDefinition,
  type ServiceError,
} from '@grpc/grpc-js'
import { type CallItem, OnError } from '../../proto/gen/farpool/v1/pool_service.js'
import { Status } from '../../proto/gen/google/rpc/status.js'
import { statusToFailure } from '../../wire/failure.js'
import { RPC_METHODS, type RpcMethod, type RpcMethods } from '../../wire/rpc-methods.js'

/** A client of nothing but generated stubs, and its requests and answers. */

type Method<M> =
  M extends RpcMethod<infer Req, infer Res, false, false>
    ? {
        (request: Req, done: (error: ServiceError | null, response: Res) => void): ClientUnaryCall
        (
          request: Req,
          metadata: Metadata,
          options: CallOptions,
          done: (error: ServiceError | null, response: Res) => void,
        ): ClientUnaryCall
      }
    : M extends RpcMethod<infer Req, infer Res, false, true>
      ? (request: Req, metadata?: Metadata, options?: CallOptions) => ClientReadableStream<Res>
      : M extends RpcMethod<infer Req, infer Res, true, true>
        ? (metadata?: Metadata, options?: CallOptions) => ClientDuplexStream<Req, Res>
        : never

export type Stub = Client & { readonly [M in keyof RpcMethods]: Method<RpcMethods[M]> }

const StubClient = makeGenericClientConstructor(RPC_METHODS as unknown as ServiceDefinition, 'farpool.v1.PoolService')

/** @param options 'grpc.use_local_subchannel_pool': 1 makes a connection of its own; otherwise stubs share one. */
export const makeStub = (address: string, options: ClientOptions = {}): Stub =>
  new StubClient(address, credentials.createInsecure(), options) as unknown as Stub

/** The metadata of a call with a token, as stubs of every language write it. */
export function bearer(token: string): Metadata {
  const metadata = new Metadata()
  metadata.set('authorization', `Bearer ${token}`)
  return metadata
}

/** The next message of a stream of responses. */
export const nextOf = <T>(stream: { once(event: 'data', listener: (response: T) => void): unknown }): Promise<T> =>
  new Promise((resolve) => stream.once('data', resolve))

export const json = (value: unknown) => ({ kind: { $case: 'json' as const, value: JSON.stringify(value) } })
/** A stream without a session. */
export const alone = { session: undefined, received: 0, abandon: false, last: false }
export const timeouts = { queueTimeoutMs: 0, runTimeoutMs: 0 }
export const call = { pool: '', kwargs: undefined, replyKind: 0, retries: 0, ...timeouts, requestId: '' }
export const request = (name: string, ...args: unknown[]) => ({ ...call, function: name, args: args.map(json) })
export const mapRequest = (name: string, chunks: unknown[][], more = {}) => ({
  ...call,
  function: name,
  chunks: chunks.map(json),
  spread: false,
  args: [],
  onError: OnError.ON_ERROR_UNSPECIFIED,
  allowPartial: false,
  ...more,
})

/** Calls of one function in a stream of calls, and one of them. */
export const group = (name: string, calls: CallItem[], more = {}) => ({
  ...mapRequest(name, []),
  timeoutMs: 0,
  calls,
  ...more,
})
export const one = (id: number, ...args: unknown[]): CallItem => ({ id, args: args.map(json), chunk: undefined })

// biome-ignore lint/suspicious/noExplicitAny: the callbacks of ten methods, of which only the error matters here
export type AnyCallback = (error: ServiceError | null, response: any) => void
export const answer = <T>(send: (done: AnyCallback) => unknown): Promise<T> =>
  new Promise((resolve, reject) => {
    send((error, response: T) => (error ? reject(error) : resolve(response)))
  })
export const failure = async (send: (done: AnyCallback) => unknown) => {
  const error = await answer<never>(send).catch((caught: ServiceError) => caught)
  const [details] = error.metadata.get('grpc-status-details-bin')
  return { error, failure: details instanceof Buffer ? statusToFailure(Status.decode(details)) : undefined }
}
export const values = (payloads: readonly { kind?: { value: unknown } | undefined }[]) =>
  payloads.map(({ kind }) => JSON.parse(String(kind?.value)))
