import { PoolServiceDefinition } from '../proto/gen/farpool/v1/pool_service.js'
import { asBuffer } from './framing/protobuf.js'

/** One RPC, in the form that grpc-js takes for a client as for a server. */
export interface RpcMethod<Req, Res, InStream extends boolean, OutStream extends boolean> {
  readonly path: string
  readonly requestStream: InStream
  readonly responseStream: OutStream
  readonly requestSerialize: (request: Req) => Buffer
  readonly requestDeserialize: (bytes: Uint8Array) => Req
  readonly responseSerialize: (response: Res) => Buffer
  readonly responseDeserialize: (bytes: Uint8Array) => Res
}

interface Message<T> {
  encode(message: T): { finish(): Uint8Array }
  decode(bytes: Uint8Array): T
}

interface GeneratedMethod<Req, Res, InStream extends boolean, OutStream extends boolean> {
  readonly name: string
  readonly requestType: Message<Req>
  readonly responseType: Message<Res>
  readonly requestStream: InStream
  readonly responseStream: OutStream
}

type Generated = typeof PoolServiceDefinition.methods

/** By the names of the generated code, for example `apply` and `iMap`. */
export type RpcMethods = {
  readonly [M in keyof Generated]: Generated[M] extends GeneratedMethod<infer Req, infer Res, infer In, infer Out>
    ? RpcMethod<Req, Res, In, Out>
    : never
}

/**
 * The RPCs of farpool.v1.PoolService, from the generated code. The generated code names no gRPC library, so a program
 * with a local pool loads none.
 */
export const RPC_METHODS = Object.fromEntries(
  Object.entries(PoolServiceDefinition.methods).map(([key, method]) => [key, rpcMethod(method as never)]),
) as unknown as RpcMethods

function rpcMethod<Req, Res, InStream extends boolean, OutStream extends boolean>(
  method: GeneratedMethod<Req, Res, InStream, OutStream>,
): RpcMethod<Req, Res, InStream, OutStream> {
  const { name, requestType, responseType, requestStream, responseStream } = method
  return {
    path: `/${PoolServiceDefinition.fullName}/${name}`,
    requestStream,
    responseStream,
    requestSerialize: (request) => asBuffer(requestType.encode(request).finish()),
    requestDeserialize: (bytes) => requestType.decode(bytes),
    responseSerialize: (response) => asBuffer(responseType.encode(response).finish()),
    responseDeserialize: (bytes) => responseType.decode(bytes),
  }
}
