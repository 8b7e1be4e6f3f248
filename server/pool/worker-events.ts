import type { Failure } from '../../wire/failure.js'
import type { FunctionInfo } from './functions.js'
import type { Line } from './lines.js'
import type { WorkerExit } from './state.js'
import type { Outcome } from './task.js'

export interface WorkerInit {
  /** Absolute paths. */
  readonly modules: readonly string[]
  /** Empty for none. */
  readonly initializer: string
  readonly initargs: readonly Uint8Array[]
  readonly stacks: boolean
  /** With more memory than this a worker asks to be replaced; 0 for any. */
  readonly maxRssBytes: number
  /** A larger result fails in the worker. */
  readonly maxResultBytes: number
}

/** How long a worker may take, in milliseconds; then its process is killed. */
export interface WorkerTimes {
  /** To load its modules and run its initializer; 0 for any time. */
  readonly startTimeoutMs: number
  /** To end a task that was aborted. */
  readonly graceMs: number
}

/** What a worker tells its pool. */
export interface WorkerEvents {
  ready(functions: readonly FunctionInfo[], runtime: string): void
  initFailed(failure: Failure): void
  started(task: number): void
  done(task: number, outcome: Outcome, ranMs: number): void
  returned(tasks: readonly number[]): void
  progressed(task: number, items: number): void
  /** It has grown beyond maxRssBytes. */
  retire(rssBytes: number): void
  /** A promise: whoever logs has enough for now, and reads on when it resolves. */
  printed(lines: readonly Line[]): Promise<void> | undefined
  exited(exit: WorkerExit): void
}
