import { type DestinationStream, destination, type Logger, pino } from 'pino'
import type { PoolEvents } from '../pool/pool.js'

export type { Logger } from 'pino'

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]

/** What may wait for a reader of the log that is slow; what is more is dropped: a log must not stop or fill a server. */
const MAX_BACKLOG_BYTES = 64 * 1024 * 1024

/** One JSON object per line on standard error; standard output belongs to whoever started the server. */
export const createLogger = (
  level: LogLevel,
  to: DestinationStream = destination({ fd: 2, sync: false, maxLength: MAX_BACKLOG_BYTES }),
): Logger => pino({ level, base: { pid: process.pid }, timestamp: pino.stdTimeFunctions.isoTime }, to)

/**
 * What happens in a pool, as log lines. What functions print is logged whatever the server's own level is: its
 * author asked for it with print.
 */
export function poolLog(logger: Logger, pool: string): PoolEvents {
  const log = logger.child({ pool })
  const prints = log.child({}, { level: log.level === 'silent' ? 'silent' : 'info' })
  return {
    printed: ({ pid }, { stream, task, text }) =>
      prints.info({ worker: pid, ...(task !== 0 && { task }), stream }, text),
    workerStarted: ({ pid }) => log.debug({ worker: pid }, 'worker is ready'),
    workerExited: ({ pid, exitCode, signal, expected }) =>
      log[expected ? 'debug' : 'warn']({ worker: pid, exitCode, signal }, 'worker has ended'),
    failed: (failure) => log.error({ reason: failure.reason }, failure.message),
  }
}
