import type { BinaryReader } from '@bufbuild/protobuf/wire'
import type { MethodDefinition, ServiceDefinition } from '@grpc/grpc-js'
import * as routing from '../../proto/gen/farpool/routing/v1/routing.js'
import * as api from '../../proto/gen/farpool/v1/pool_service.js'
import { decodeCallRequest } from '../../wire/framing/call-codec.js'
import { checkFields, decodeStrictly, type Shape } from '../../wire/framing/protobuf.js'
import { MAX_FIELDS } from '../../wire/protocol.js'

/** How one method's messages are read and written. */
export interface Codec<Req, Res> {
  /** The name of the request message, for error messages. */
  readonly request: string
  decode(bytes: Uint8Array): Req
  encode(response: Res): Uint8Array
}

interface Message<T> {
  decode(bytes: BinaryReader): T
  encode(message: T): { finish(): Uint8Array }
}

const codec = <Req, Res>(request: string, requests: Message<Req>, responses: Message<Res>): Codec<Req, Res> => ({
  request: `farpool.v1.${request}`,
  decode: (bytes) => {
    checkFields(bytes, {}, MAX_FIELDS)
    return decodeStrictly(requests, bytes)
  },
  encode: (response) => responses.encode(response).finish(),
})

/** Groups of calls that have a number and arguments; and the numbers of calls that are given up. */
const CALL_REQUEST: Shape = { 1: { 10: {} }, 2: 'packed' }

/** Methods that carry payloads use the routing view: their payloads pass through as slices of what was received. */
export const codecs = {
  apply: codec('ApplyRequest', routing.ApplyRequest, routing.ApplyResponse),
  map: codec('MapRequest', routing.MapRequest, routing.MapResponse),
  iMap: codec('IMapRequest', routing.MapRequest, routing.IMapResponse),
  call: {
    request: 'farpool.v1.CallRequest',
    decode: (bytes: Uint8Array) => {
      checkFields(bytes, CALL_REQUEST, MAX_FIELDS)
      return decodeCallRequest(bytes)
    },
    // Written outcome by outcome, as they come (stream.ts).
    encode: (response: Uint8Array) => response,
  },
  openPool: codec('OpenPoolRequest', routing.OpenPoolRequest, api.OpenPoolResponse),
  closePool: codec('ClosePoolRequest', api.ClosePoolRequest, api.ClosePoolResponse),
  joinPool: codec('JoinPoolRequest', api.JoinPoolRequest, api.JoinPoolResponse),
  terminate: codec('TerminateRequest', api.TerminateRequest, api.TerminateResponse),
  getServerInfo: codec('GetServerInfoRequest', api.GetServerInfoRequest, api.GetServerInfoResponse),
  listFunctions: codec('ListFunctionsRequest', api.ListFunctionsRequest, api.ListFunctionsResponse),
  getPool: codec('GetPoolRequest', api.GetPoolRequest, api.GetPoolResponse),
}

export type MethodName = keyof typeof codecs

/** The service as grpc-js sees it: bytes in, bytes out. What they mean is the codecs' business (call.ts). */
export const serviceDefinition: ServiceDefinition = Object.fromEntries(
  (Object.keys(codecs) as MethodName[]).map((name): [string, MethodDefinition<Uint8Array, Uint8Array>] => {
    const { path, requestStream, responseStream } = api.PoolServiceService[name]
    return [
      name,
      {
        path,
        requestStream,
        responseStream,
        requestSerialize: asBuffer,
        requestDeserialize: (bytes) => bytes,
        responseSerialize: asBuffer,
        responseDeserialize: (bytes) => bytes,
      },
    ]
  }),
)

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
