/** The public API of the TypeScript client. */

export type { CodeName, Reason } from '../wire/reason.js'
export { AsyncResult } from './async-result.js'
export { Caller } from './caller.js'
export {
  BadRequestError,
  CancelledError,
  EncodingError,
  type ErrorFacts,
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
export { type PoolEventListener, type PoolEvents, PoolEventTarget, type WorkerExit } from './events.js'
export type { ImapChunks, ImapIterator } from './imap.js'
export type { FunctionInfo, PoolInfo } from './info.js'
export type { LocalOptions, OutputLine } from './local.js'
export type {
  AsyncOptions,
  CallOptions,
  ClientOptions,
  ImapOptions,
  ItemOutcome,
  ItemsOptions,
  MapAsyncOptions,
  MapOptions,
  OwnedPoolOptions,
  PemSource,
  PoolOptions,
  Progress,
  RetryOptions,
  TlsOptions,
} from './options.js'
export { Pool } from './pool-client.js'
export { partial } from './request.js'
export type {
  AnyModule,
  Bound,
  CallArgs,
  FunctionName,
  FunctionRef,
  Functions,
  Item,
  Kwargs,
  Result,
  StarItem,
  Unsendable,
  Wire,
} from './typed.js'
