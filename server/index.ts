/** `farpool/server`: a server inside a program of one's own; `farpool serve` is this behind a command line. */

export { Failure } from '../wire/failure.js'
export type { Reason } from '../wire/reason.js'
export type { PoolConfig, ServeConfig, ServeOptions, SharedPoolOptions } from './config.js'
export type { LogFormat, LogLevel } from './ops/log.js'
export { type RunningServer, serve } from './serve.js'
