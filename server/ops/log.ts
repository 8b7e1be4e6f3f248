import { type DestinationStream, destination, type Logger, pino } from 'pino'
import type { PoolEvents } from '../pool/pool.js'

export type { Logger } from 'pino'

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]

/** What may wait for a reader of the log that is slow; what is more is dropped: a log must not stop or fill a server. */
const MAX_BACKLOG_BYTES = 64 * 1024 * 1024

/** Functions that print wait while so much of the log has not been written. */
const HOLD_BACKLOG_BYTES = 1024 * 1024

/** One JSON object per line on standard error; standard output belongs to whoever started the server. */
export class Log {
  readonly logger: Logger
  readonly #out = destination({ fd: 2, sync: false, maxLength: MAX_BACKLOG_BYTES })
  /** Bytes since the last time that everything had been written. */
  #backlog = 0
  #whenWritten: (() => void)[] = []

  constructor(level: LogLevel) {
    this.#out.on('drain', () => {
      this.#backlog = 0
      for (const resolve of this.#whenWritten.splice(0)) resolve()
    })
    const out: DestinationStream = {
      write: (line) => {
        this.#backlog += line.length
        this.#out.write(line)
      },
    }
    this.logger = pino({ level, base: { pid: process.pid }, timestamp: pino.stdTimeFunctions.isoTime }, out)
  }

  /** Resolves when everything has been written; undefined where little enough waits. */
  held(): Promise<void> | undefined {
    if (this.#backlog < HOLD_BACKLOG_BYTES) return undefined
    return new Promise((resolve) => this.#whenWritten.push(resolve))
  }
}

/**
 * What happens in a pool, as log lines. What functions print is logged whatever the server's own level is: its
 * author asked for it with print.
 */
export function poolLog(from: Log, pool: string): PoolEvents {
  const log = from.logger.child({ pool })
  const prints = log.child({}, { level: log.level === 'silent' ? 'silent' : 'info' })
  return {
    printed: ({ pid }, { stream, task, text }) => {
      prints.info({ worker: pid, ...(task !== 0 && { task }), stream }, text)
      return from.held()
    },
    workerStarted: ({ pid }) => log.debug({ worker: pid }, 'worker is ready'),
    workerExited: ({ pid, exitCode, signal, oom, why, expected }) =>
      log[expected ? 'debug' : 'warn']({ worker: pid, exitCode, signal, oom, why }, 'worker has ended'),
    broken: (failure) => log.error({ reason: failure.reason }, failure.message),
    recovered: () => log.warn('a worker has started again'),
    failed: (failure) => log.error({ reason: failure.reason }, failure.message),
  }
}
