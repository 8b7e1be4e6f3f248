import type { BinaryReader } from '@bufbuild/protobuf/wire'
import type { Server, ServiceDefinition } from '@grpc/grpc-js'
import * as routing from '../../proto/gen/farpool/routing/v1/routing.js'
import * as api from '../../proto/gen/farpool/v1/pool_service.js'
import { decodeCallRequest } from '../../wire/framing/call-codec.js'
import { checkFields, decodeStrictly } from '../../wire/framing/protobuf.js'
import { MAX_FIELDS } from '../../wire/protocol.js'
import { RPC_METHODS } from '../../wire/rpc-methods.js'
import { type AdapterOptions, bytesOnly, type Codec, duplex, serverStreaming, unary } from '../grpc/adapter.js'
import { apply } from './apply-rpc.js'
import { callStream } from './call-rpc.js'
import { imap } from './imap-rpc.js'
import { getPool, getServerInfo, listFunctions } from './info-rpcs.js'
import { closePool, joinPool, openPool, terminate } from './lease-rpcs.js'
import { map } from './map-rpc.js'
import type { RpcContext } from './rpc-context.js'

interface Message<T> {
  decode(bytes: BinaryReader): T
  encode(message: T): { finish(): Uint8Array }
}

/** @param request the name of the request message in farpool.v1. */
const codec = <Req, Res>(request: string, requests: Message<Req>, responses: Message<Res>): Codec<Req, Res> => ({
  request: `farpool.v1.${request}`,
  decode: (bytes) => {
    checkFields(bytes, {}, MAX_FIELDS)
    return decodeStrictly(requests, bytes)
  },
  encode: (response) => responses.encode(response).finish(),
})

/** Messages with payloads use the routing view of the contract, in which a payload is a slice of the received bytes. */
const codecs = {
  apply: codec('ApplyRequest', routing.ApplyRequest, routing.ApplyResponse),
  map: codec('MapRequest', routing.MapRequest, routing.MapResponse),
  iMap: codec('IMapRequest', routing.MapRequest, routing.IMapResponse),
  call: { request: 'farpool.v1.CallRequest', decode: decodeCallRequest },
  openPool: codec('OpenPoolRequest', routing.OpenPoolRequest, api.OpenPoolResponse),
  closePool: codec('ClosePoolRequest', api.ClosePoolRequest, api.ClosePoolResponse),
  joinPool: codec('JoinPoolRequest', api.JoinPoolRequest, api.JoinPoolResponse),
  terminate: codec('TerminateRequest', api.TerminateRequest, api.TerminateResponse),
  getServerInfo: codec('GetServerInfoRequest', api.GetServerInfoRequest, api.GetServerInfoResponse),
  listFunctions: codec('ListFunctionsRequest', api.ListFunctionsRequest, api.ListFunctionsResponse),
  getPool: codec('GetPoolRequest', api.GetPoolRequest, api.GetPoolResponse),
}

/** Adds farpool.v1.PoolService to a gRPC server: for each method its codec, its kind and its handler. */
export function addPoolService(server: Server, context: RpcContext, options: AdapterOptions): void {
  server.addService(definition, {
    apply: unary(codecs.apply, (request, call) => apply(context, request, call), options),
    map: unary(codecs.map, (request, call) => map(context, request, call), options),
    iMap: serverStreaming(codecs.iMap, (request, call) => imap(context, request, call), options),
    call: duplex(codecs.call, (requests, call) => callStream(context, requests, call), options),
    openPool: serverStreaming(codecs.openPool, (request, call) => openPool(context, request, call), options),
    closePool: unary(codecs.closePool, (request, call) => closePool(context, request, call), options),
    joinPool: unary(codecs.joinPool, (request, call) => joinPool(context, request, call), options),
    terminate: unary(codecs.terminate, (request, call) => terminate(context, request, call), options),
    getServerInfo: unary(codecs.getServerInfo, (request, call) => getServerInfo(context, request, call), options),
    listFunctions: unary(codecs.listFunctions, (request, call) => listFunctions(context, request, call), options),
    getPool: unary(codecs.getPool, (request, call) => getPool(context, request, call), options),
  })
}

/** All methods with a codec here. */
const definition: ServiceDefinition = Object.fromEntries(
  (Object.keys(codecs) as (keyof typeof codecs)[]).map((name) => [name, bytesOnly(RPC_METHODS[name])]),
)
