import { type Logger, pino } from 'pino'
import type { OutputSink } from '../../pool/pool.js'
import type { Observer } from '../../pool/scheduler/effects.js'
import { describeExit } from '../../pool/scheduler/pool-state.js'
import { printable } from '../../wire/printable.js'
import { LogSink } from './log-sink.js'

export type { Logger } from 'pino'

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]

export const LOG_FORMATS = ['pretty', 'json'] as const
export type LogFormat = (typeof LOG_FORMATS)[number]

export const defaultLogFormat = (): LogFormat => (process.stderr.isTTY ? 'pretty' : 'json')

/** Worker output waits while more than this many bytes of the log are still unwritten. */
const MAX_UNWRITTEN_BYTES = 256 * 1024

/** Lines of worker output in one turn of the event loop. More would delay other calls by some milliseconds. */
const LINES_PER_TURN = 256

/** Shared by all servers of this process. */
let standardError: LogSink | undefined

/**
 * The server's log on standard error: one JSON object per line, or text for people. Standard output stays free for the
 * embedding program. Functions print what they like, and callers choose names: what would control a terminal, or begin a
 * line of its own, is escaped.
 */
export class Log {
  readonly logger: Logger
  readonly #sink: LogSink
  readonly #throttle = new OutputThrottle()

  private constructor(level: LogLevel, toText: (line: string) => string) {
    // Reading `process.stderr` makes Node open it, and Node sets a pipe to non-blocking. A blocking write would delay
    // the exit of the process when the reader has stopped.
    standardError ??= new LogSink(process.stderr.fd)
    const sink = standardError
    this.#sink = sink
    this.logger = pino(
      { level, base: { pid: process.pid }, timestamp: pino.stdTimeFunctions.isoTime },
      { write: (line: string) => sink.write(toText(line)) },
    )
  }

  static async open(level: LogLevel, format: LogFormat): Promise<Log> {
    return new Log(level, format === 'json' ? printable : await prettyPrinter())
  }

  /**
   * Backpressure for a worker whose `lines` lines of output have just been logged. Undefined: read on. A promise: read no
   * more of its output until it resolves.
   */
  backpressure(lines: number): Promise<void> | undefined {
    return this.#sink.backlog < MAX_UNWRITTEN_BYTES ? this.#throttle.take(lines) : this.#sink.written()
  }
}

/** Loaded only where it is used. */
async function prettyPrinter(): Promise<(line: string) => string> {
  const { prettyFactory } = await import('pino-pretty')
  const pretty = prettyFactory({
    colorize: process.stderr.isTTY && process.stderr.hasColors(),
    ignore: 'pid',
    translateTime: 'SYS:HH:MM:ss.l',
    singleLine: true,
  })
  return (line) => pretty(JSON.parse(line, harmless))
}

/** For JSON.parse: no text and no name of a property does anything to a terminal, and no message looks like two. */
function harmless(key: string, value: unknown): unknown {
  if (typeof value === 'string') return key === 'msg' ? printable(value).replaceAll('\n', '\n    ') : printable(value)
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [printable(name), part]))
}

/**
 * Spreads worker output over turns of the event loop. A worker can print ten thousand lines at once, and other calls
 * would wait while they are logged. Once LINES_PER_TURN lines have been logged in a turn, each worker that prints has to
 * wait; one of the waiting workers goes on in each later turn.
 */
export class OutputThrottle {
  #lines = 0
  #isScheduled = false
  readonly #waiting: (() => void)[] = []

  /** Counts lines that have been logged. A promise means that their worker waits until it resolves. */
  take(lines: number): Promise<void> | undefined {
    this.#lines += lines
    if (!this.#isScheduled) setImmediate(this.#nextTurn)
    this.#isScheduled = true
    return this.#lines > LINES_PER_TURN ? new Promise((resolve) => this.#waiting.push(resolve)) : undefined
  }

  readonly #nextTurn = (): void => {
    this.#lines = 0
    this.#isScheduled = this.#waiting.length > 0
    if (!this.#isScheduled) return
    setImmediate(this.#nextTurn)
    this.#waiting.shift()?.()
  }
}

/**
 * Logs the events of one pool. Worker output is logged at level `info`, also when the server's own level is higher: the
 * function's author asked for it. Only `silent` turns it off.
 */
export function poolLog(log: Log, pool: string): { readonly observer: Observer; readonly output: OutputSink } {
  const logger = log.logger.child({ pool })
  const output = logger.child({}, { level: logger.level === 'silent' ? 'silent' : 'info' })
  let wasBroken = false
  return {
    output: ({ pid }, lines) => {
      for (const { stream, task, text } of lines)
        output.info({ worker: pid, ...(task !== 0 && { task }), stream }, text)
      return log.backpressure(lines.length)
    },
    observer: {
      worker: (event) => {
        if (event.kind === 'ready') logger.debug({ worker: event.pid }, 'worker is ready')
        else if (event.kind === 'start-failed') logger.warn({ error: event.error }, 'a worker could not be started')
        else if (event.kind === 'exited') {
          const { exit, task } = event
          const { pid, exitCode, signal, oom, expected } = exit
          logger[expected ? 'debug' : 'warn'](
            {
              worker: pid,
              task: task?.id,
              function: task?.job.function,
              exitCode,
              signal,
              oom,
              cause: describeExit(exit),
            },
            'worker has ended',
          )
        }
      },
      state: (state) => {
        if (state.kind === 'failed' || state.kind === 'broken') {
          logger.error({ reason: state.failure.reason }, state.failure.message)
        } else if (state.kind === 'open' && wasBroken) logger.warn('a worker has started again')
        wasBroken = state.kind === 'broken'
      },
    },
  }
}
