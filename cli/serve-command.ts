import { setFlagsFromString } from 'node:v8'
import { Command, Option } from 'commander'
import { type RunningServer, type ServeOptions, serve } from '../server/index.js'
import { LOG_FORMATS, LOG_LEVELS } from '../server/ops/log.js'
import { count, json } from './command-options.js'
import { Exit, fail } from './exit-codes.js'

/** farpool serve: runs a server until SIGTERM or SIGINT. server/config.ts sets the defaults that stand in a help text only. */
export const serveCommand = () =>
  new Command('serve')
    .description('run a server whose workers execute the functions that the modules export')
    .argument('<modules...>', 'ES modules, CommonJS modules, or TypeScript (Node 22.18 or newer)')
    .addOption(
      new Option('-l, --listen <address>', 'where to listen: host:port or unix:/path')
        .env('FARPOOL_LISTEN')
        .default('127.0.0.1:50051'),
    )
    .addOption(
      new Option(
        '-p, --processes <n>',
        'worker processes of the shared pool (default: one per CPU that this process may use)',
      )
        .env('FARPOOL_PROCESSES')
        .argParser(count()),
    )
    .addOption(
      new Option(
        '--initializer <function>',
        'a function that each worker of the shared pool calls once when it starts',
      ).env('FARPOOL_INITIALIZER'),
    )
    .addOption(
      new Option('--initargs <json>', 'the arguments of the initializer, as a JSON array')
        .env('FARPOOL_INITARGS')
        .argParser(json('array')),
    )
    .addOption(
      new Option(
        '--max-tasks-per-child <n>',
        'replace a worker after this many tasks, for example because a function leaks memory (default: never)',
      )
        .env('FARPOOL_MAX_TASKS_PER_CHILD')
        .argParser(count()),
    )
    .addOption(
      new Option(
        '--grace <ms>',
        'time for a cancelled function to end by itself, in milliseconds; then its process is killed',
      )
        .env('FARPOOL_GRACE')
        .default(2_000)
        .argParser(count(0)),
    )
    .addOption(
      new Option(
        '--start-timeout <ms>',
        'longest start of a worker (modules and initializer), in milliseconds; then it is killed; 0: no limit',
      )
        .env('FARPOOL_START_TIMEOUT')
        .default(60_000)
        .argParser(count(0)),
    )
    .addOption(
      new Option(
        '--run-timeout <ms>',
        'longest run of a task, in milliseconds, if neither its call nor its function sets a limit; 0: no limit (default: 0)',
      )
        .env('FARPOOL_RUN_TIMEOUT')
        .argParser(count(0)),
    )
    .addOption(
      new Option(
        '--max-heap-mb <n>',
        'largest JavaScript heap of a worker, in MiB; a function that needs more fails with WORKER_OOM (default: chosen by Node)',
      )
        .env('FARPOOL_MAX_HEAP_MB')
        .argParser(count()),
    )
    .addOption(
      new Option(
        '--worker-nice <n>',
        'lower CPU priority of workers, so that the server stays responsive: 0 (equal) to 19 (lowest)',
      )
        .env('FARPOOL_WORKER_NICE')
        .default(5)
        .argParser(count(0)),
    )
    .addOption(
      new Option(
        '--max-rss-mb <n>',
        'replace a worker after a task if its resident memory exceeds this many MiB; 0: never (default: 0)',
      )
        .env('FARPOOL_MAX_RSS_MB')
        .argParser(count(0)),
    )
    .addOption(
      new Option(
        '--max-queued <n>',
        'most tasks that wait in one pool; further ones fail with QUEUE_FULL (default: 1000000)',
      )
        .env('FARPOOL_MAX_QUEUED')
        .argParser(count()),
    )
    .addOption(
      new Option(
        '--max-queued-per-client <n>',
        'most tasks of one client that wait in a pool (default: the value of --max-queued)',
      )
        .env('FARPOOL_MAX_QUEUED_PER_CLIENT')
        .argParser(count()),
    )
    .addOption(
      new Option(
        '--max-running-per-client <n>',
        'most workers of the shared pool that one client occupies at once (default: all)',
      )
        .env('FARPOOL_MAX_RUNNING_PER_CLIENT')
        .argParser(count()),
    )
    .addOption(
      new Option(
        '--max-queued-bytes <n>',
        'most bytes of arguments that wait in one pool; further tasks fail with QUEUE_FULL (default: 1 GiB)',
      )
        .env('FARPOOL_MAX_QUEUED_BYTES')
        .argParser(count()),
    )
    .addOption(
      new Option(
        '--max-pools <n>',
        'most pools that all clients together have open, beside the shared pool (default: 1000)',
      )
        .env('FARPOOL_MAX_POOLS')
        .argParser(count(0)),
    )
    .addOption(
      new Option('--max-processes <n>', 'most worker processes of all pools together (default: 1024)')
        .env('FARPOOL_MAX_PROCESSES')
        .argParser(count()),
    )
    .addOption(
      new Option(
        '--drain <ms>',
        'time for calls in flight to end after SIGTERM or SIGINT, in milliseconds; then they fail',
      )
        .env('FARPOOL_DRAIN')
        .default(30_000)
        .argParser(count(0)),
    )
    .addOption(
      new Option(
        '--ping-timeout <ms>',
        'time that a client may be silent, for example at a breakpoint, in milliseconds; then its connection ends (default: 300000)',
      )
        .env('FARPOOL_PING_TIMEOUT')
        .argParser(count()),
    )
    .addOption(
      new Option(
        '--max-message-bytes <n>',
        'largest message that the server takes or sends, in bytes (default: 72 MiB)',
      )
        .env('FARPOOL_MAX_MESSAGE_BYTES')
        .argParser(count()),
    )
    .addOption(
      new Option(
        '--max-held-bytes <n>',
        'memory for the requests and unread results of all clients together, in bytes (default: 1 GiB, or a quarter of the memory)',
      )
        .env('FARPOOL_MAX_HELD_BYTES')
        .argParser(count()),
    )
    .addOption(
      new Option('--max-connections <n>', 'most open connections; further ones are closed at once (default: 1000)')
        .env('FARPOOL_MAX_CONNECTIONS')
        .argParser(count()),
    )
    .addOption(
      new Option(
        '--max-streams <n>',
        'most open calls of one connection; a stream of many calls counts as one (default: 1000)',
      )
        .env('FARPOOL_MAX_STREAMS')
        .argParser(count()),
    )
    .addOption(
      new Option('--max-metadata-bytes <n>', 'most bytes of headers of one call (default: 16 KiB)')
        .env('FARPOOL_MAX_METADATA_BYTES')
        .argParser(count()),
    )
    .addOption(
      new Option('--allow-terminate', 'let clients close and terminate the shared pool').env('FARPOOL_ALLOW_TERMINATE'),
    )
    .addOption(
      new Option(
        '--stacks',
        'send the stack traces of functions to clients (default: only on loopback addresses and Unix sockets)',
      ).env('FARPOOL_STACKS'),
    )
    .addOption(new Option('--no-stacks', 'never send stack traces of functions'))
    .addOption(
      new Option(
        '--log-level <level>',
        'the least severe messages to log; worker output is logged at every level but silent',
      )
        .env('FARPOOL_LOG_LEVEL')
        .choices(LOG_LEVELS)
        .default('info'),
    )
    .addOption(
      new Option(
        '--log-format <format>',
        'how the log looks: text for people, or one JSON object for each line (default: pretty on a terminal, else json)',
      )
        .env('FARPOOL_LOG_FORMAT')
        .choices(LOG_FORMATS),
    )
    .addOption(
      new Option(
        '--watch',
        'for development: replace the workers when a module, or a file that it imports, has changed',
      ).env('FARPOOL_WATCH'),
    )
    .addOption(
      new Option('--exit-on-stdin-end', 'exit when standard input ends, for a program that starts its own server').env(
        'FARPOOL_EXIT_ON_STDIN_END',
      ),
    )
    .action(
      async (
        modules: string[],
        options: Omit<ServeOptions, 'modules'> & {
          grace: number
          drain: number
          startTimeout: number
          runTimeout?: number
          pingTimeout?: number
          exitOnStdinEnd?: boolean
        },
      ) => {
        const { grace, drain, startTimeout, runTimeout = 0, pingTimeout, exitOnStdinEnd = false, ...rest } = options
        try {
          const times = { graceMs: grace, drainMs: drain, startTimeoutMs: startTimeout, runTimeoutMs: runTimeout }
          await run(
            { ...rest, ...times, ...(pingTimeout !== undefined && { pingTimeoutMs: pingTimeout }), modules },
            exitOnStdinEnd,
          )
        } catch (error) {
          await fail(error)
        }
      },
    )

/**
 * V8 collects the heap when it has grown by this much, in percent. The buffers of large values count as growth, so a small
 * heap is collected once for every few megabytes that pass through: half of the server's time in an echo of 1 MiB values.
 * V8 itself chooses from 10 to 300 (docs/explanation/performance.md). Workers do not inherit it.
 */
const HEAP_GROWING_PERCENT = 300

async function run(options: ServeOptions, exitOnStdinEnd: boolean): Promise<void> {
  setFlagsFromString(`--heap-growing-percent=${HEAP_GROWING_PERCENT}`)
  let server: RunningServer | undefined
  const starting = new AbortController()
  const end = (signal: NodeJS.Signals) => {
    if (server) return endServer(server, signal)
    // The second signal does not wait for workers. They end with this process (pool/process/launcher.ts).
    if (starting.signal.aborted) process.exit(Exit.FAILED)
    starting.abort(`it got ${signal}`)
  }
  process.on('SIGTERM', end)
  process.on('SIGINT', end)
  if (exitOnStdinEnd) {
    process.stdin.resume().once('close', () => {
      if (!server) process.exit(Exit.FAILED)
      void server.stop().finally(() => process.exit(Exit.OK))
    })
  }
  try {
    server = await serve({ ...options, signal: starting.signal })
  } catch (error) {
    // It would keep this process alive.
    if (exitOnStdinEnd) process.stdin.pause()
    throw error
  }
}

/** How many signals have told the server to end. */
let signals = 0

/** The first SIGTERM or SIGINT drains the server, the second stops it at once. */
function endServer(server: RunningServer, signal: NodeJS.Signals): void {
  server.logger.info({ signal }, signals === 0 ? 'draining; the same signal again ends at once' : 'ending at once')
  const end = signals++ === 0 ? server.drain() : server.stop()
  // Something may still keep the event loop alive, such as a client that never reads: exit all the same.
  end.then(
    () => process.exit(Exit.OK),
    async (error: unknown) => {
      await fail(error)
      process.exit(Exit.FAILED)
    },
  )
}
