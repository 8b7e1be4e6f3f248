import { type Logger, pino } from 'pino'
import type { OutputSink } from '../../pool/pool.js'
import type { Observer } from '../../pool/scheduler/effects.js'
import { Sink } from './log-sink.js'

/** So many lines are logged in one turn of the event loop, some milliseconds, and what comes in one piece with them. */
const LINES_IN_A_TURN = 256

/**
 * Turns of whoever prints much: a worker can print ten thousand lines at once, and while they are logged everybody else would
 * wait. Beyond a few lines they go on one after another, each in a turn of the event loop.
 */
export class PrintTurns {
  #lines = 0
  #isTurn = false
  readonly #waiting: (() => void)[] = []

  /** So many lines have been logged; a promise where whoever printed them has to wait until it resolves. */
  take(lines: number): Promise<void> | undefined {
    this.#lines += lines
    if (!this.#isTurn) setImmediate(this.#next)
    this.#isTurn = true
    return this.#lines > LINES_IN_A_TURN ? new Promise((resolve) => this.#waiting.push(resolve)) : undefined
  }

  readonly #next = (): void => {
    this.#lines = 0
    this.#isTurn = this.#waiting.length > 0
    if (!this.#isTurn) return
    setImmediate(this.#next)
    this.#waiting.shift()?.()
  }
}

export type { Logger } from 'pino'

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]

/** Functions that print wait while so much of the log has not been written. */
const HOLD_BACKLOG_BYTES = 256 * 1024

let standardError: Sink | undefined

/** One JSON object per line on standard error; standard output belongs to whoever started the server. */
export class Log {
  readonly logger: Logger
  readonly #out: Sink
  readonly #turns = new PrintTurns()

  constructor(level: LogLevel) {
    // Node opens it, and a pipe does not block any more: an exit must not wait for a reader that has stopped.
    this.#out = standardError ??= new Sink(process.stderr.fd)
    this.logger = pino({ level, base: { pid: process.pid }, timestamp: pino.stdTimeFunctions.isoTime }, this.#out)
  }

  /**
   * Whoever has printed so many lines goes on when it resolves: everything has been written, or nobody reads any more, or it
   * is his turn; undefined where little enough waits.
   */
  held(lines: number): Promise<void> | undefined {
    return this.#out.backlog < HOLD_BACKLOG_BYTES ? this.#turns.take(lines) : this.#out.written()
  }
}

/**
 * What happens in a pool, as log lines. What functions print is logged whatever the server's own level is: its
 * author asked for it with print.
 */
export function poolLog(from: Log, pool: string): { readonly observer: Observer; readonly output: OutputSink } {
  const log = from.logger.child({ pool })
  const prints = log.child({}, { level: log.level === 'silent' ? 'silent' : 'info' })
  let wasBroken = false
  return {
    output: ({ pid }, lines) => {
      for (const { stream, task, text } of lines)
        prints.info({ worker: pid, ...(task !== 0 && { task }), stream }, text)
      return from.held(lines.length)
    },
    observer: {
      worker: (event) => {
        if (event.kind === 'ready') log.debug({ worker: event.pid }, 'worker is ready')
        else if (event.kind === 'start-failed') log.warn({ error: event.error }, 'a worker could not be started')
        else if (event.kind === 'exited') {
          const { pid, exitCode, signal, oom, why, expected } = event.exit
          log[expected ? 'debug' : 'warn']({ worker: pid, exitCode, signal, oom, why }, 'worker has ended')
        }
      },
      state: (state) => {
        if (state.kind === 'failed' || state.kind === 'broken') {
          log.error({ reason: state.failure.reason }, state.failure.message)
        } else if (state.kind === 'open' && wasBroken) log.warn('a worker has started again')
        wasBroken = state.kind === 'broken'
      },
    },
  }
}
