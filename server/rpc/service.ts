import type { UntypedServiceImplementation } from '@grpc/grpc-js'
import { apply } from './apply.js'
import { type ReportFault, serverStreaming, unary } from './call.js'
import type { RpcContext } from './context.js'
import { codecs } from './definition.js'
import { imap } from './imap.js'
import { getPool, getServerInfo, listFunctions } from './info.js'
import { closePool, joinPool, openPool, terminate } from './lease.js'
import { map } from './map.js'

/** Method → handler, as grpc-js wants them. */
export const implementation = (context: RpcContext, report: ReportFault): UntypedServiceImplementation => ({
  apply: unary(codecs.apply, (request, call) => apply(context, request, call), report),
  map: unary(codecs.map, (request, call) => map(context, request, call), report),
  iMap: serverStreaming(codecs.iMap, (request, call) => imap(context, request, call), report),
  openPool: serverStreaming(codecs.openPool, (request, call) => openPool(context, request, call), report),
  closePool: unary(codecs.closePool, (request) => closePool(context, request), report),
  joinPool: unary(codecs.joinPool, (request, call) => joinPool(context, request, call), report),
  terminate: unary(codecs.terminate, (request) => terminate(context, request), report),
  getServerInfo: unary(codecs.getServerInfo, () => getServerInfo(context), report),
  listFunctions: unary(codecs.listFunctions, () => listFunctions(context), report),
  getPool: unary(codecs.getPool, (request) => getPool(context, request), report),
})
