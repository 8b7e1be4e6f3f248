import type { UntypedServiceImplementation } from '@grpc/grpc-js'
import { duplex, type Edge, serverStreaming, unary } from '../grpc/adapter.js'
import { codecs } from '../grpc/definition.js'
import { apply } from './apply-rpc.js'
import { callStream } from './call-rpc.js'
import { imap } from './imap-rpc.js'
import { getPool, getServerInfo, listFunctions } from './info-rpcs.js'
import { closePool, joinPool, openPool, terminate } from './lease-rpcs.js'
import { map } from './map-rpc.js'
import type { RpcContext } from './rpc-context.js'

/** Method → handler, as grpc-js wants them. */
export const implementation = (context: RpcContext, edge: Edge): UntypedServiceImplementation => ({
  apply: unary(codecs.apply, (request, call) => apply(context, request, call), edge),
  map: unary(codecs.map, (request, call) => map(context, request, call), edge),
  iMap: serverStreaming(codecs.iMap, (request, call) => imap(context, request, call), edge),
  call: duplex(codecs.call, (requests, call) => callStream(context, requests, call), edge),
  openPool: serverStreaming(codecs.openPool, (request, call) => openPool(context, request, call), edge),
  closePool: unary(codecs.closePool, (request) => closePool(context, request), edge),
  joinPool: unary(codecs.joinPool, (request, call) => joinPool(context, request, call), edge),
  terminate: unary(codecs.terminate, (request) => terminate(context, request), edge),
  getServerInfo: unary(codecs.getServerInfo, () => getServerInfo(context), edge),
  listFunctions: unary(codecs.listFunctions, () => listFunctions(context), edge),
  getPool: unary(codecs.getPool, (request) => getPool(context, request), edge),
})
