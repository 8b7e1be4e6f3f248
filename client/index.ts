/** The public API of the TypeScript client. */
export { AsyncResult } from './async-result.js'
export {
  BadRequestError,
  CancelledError,
  EncodingError,
  FarpoolError,
  InitializerError,
  LimitError,
  PermissionError,
  PoolClosedError,
  PoolTerminatedError,
  RemoteError,
  TimeoutError,
  UnavailableError,
  UnknownFunctionError,
  WorkerCrashedError,
} from './errors.js'
export type { ImapChunks, ImapIterator } from './imap.js'
export type { FunctionInfo, PoolInfo } from './info.js'
export type { LocalOptions, OutputLine } from './local.js'
export type {
  AsyncOptions,
  CallOptions,
  ImapOptions,
  MapAsyncOptions,
  MapOptions,
  PoolOptions,
} from './options.js'
export { Pool } from './pool-client.js'
export { partial } from './request.js'
export type { AnyModule, Args, Bound, FunctionName, FunctionRef, Item, Kwargs, Result, StarItem } from './typed.js'
