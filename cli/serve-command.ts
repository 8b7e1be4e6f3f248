import { Command, Option } from 'commander'
import { type RunningServer, type ServeOptions, serve } from '../server/index.js'
import { LOG_LEVELS } from '../server/ops/log.js'
import { count, json } from './command-options.js'
import { Exit, fail } from './exit-codes.js'

/** farpool serve: a server until SIGTERM or SIGINT. */
export const serveCommand = () =>
  new Command('serve')
    .description('run a server whose workers execute the functions that the modules export')
    .argument('<modules...>', 'ES modules, CommonJS modules, or TypeScript (Node 22.18 or newer)')
    .addOption(
      new Option('-l, --listen <address>', 'host:port or unix:/path').env('FARPOOL_LISTEN').default('127.0.0.1:50051'),
    )
    .addOption(
      new Option('-p, --processes <n>', 'worker processes (default: the CPUs that this process may use)')
        .env('FARPOOL_PROCESSES')
        .argParser(count()),
    )
    .addOption(
      new Option('--initializer <function>', 'a function that every worker calls when it starts').env(
        'FARPOOL_INITIALIZER',
      ),
    )
    .addOption(
      new Option('--initargs <json>', 'its arguments, a JSON array').env('FARPOOL_INITARGS').argParser(json('array')),
    )
    .addOption(
      new Option('--max-tasks-per-child <n>', 'replace a worker after so many tasks (default: never)')
        .env('FARPOOL_MAX_TASKS_PER_CHILD')
        .argParser(count()),
    )
    .addOption(
      new Option('--grace <ms>', 'how long a cancelled function may go on before its process is killed')
        .env('FARPOOL_GRACE')
        .default(2_000)
        .argParser(count(0)),
    )
    .addOption(
      new Option('--start-timeout <ms>', 'how long modules and initializer of a worker may take; 0 for any time')
        .env('FARPOOL_START_TIMEOUT')
        .default(60_000)
        .argParser(count(0)),
    )
    .addOption(
      new Option(
        '--run-timeout <ms>',
        'how long a task may run, unless its call or function says otherwise (default: any time)',
      )
        .env('FARPOOL_RUN_TIMEOUT')
        .argParser(count(0)),
    )
    .addOption(
      new Option('--max-heap-mb <n>', "each worker's heap in MiB (default: Node's own)")
        .env('FARPOOL_MAX_HEAP_MB')
        .argParser(count()),
    )
    .addOption(
      new Option(
        '--worker-nice <n>',
        "by how much workers are nicer than the server: a CPU that both want is the server's",
      )
        .env('FARPOOL_WORKER_NICE')
        .default(5)
        .argParser(count(0)),
    )
    .addOption(
      new Option(
        '--max-rss-mb <n>',
        'replace a worker that has more memory resident than this, in MiB (default: never)',
      )
        .env('FARPOOL_MAX_RSS_MB')
        .argParser(count(0)),
    )
    .addOption(
      new Option('--max-queued <n>', 'how many tasks may wait in a pool (default: 1000000)')
        .env('FARPOOL_MAX_QUEUED')
        .argParser(count()),
    )
    .addOption(
      new Option('--max-queued-per-client <n>', 'how many of one client may wait (default: as many as in the pool)')
        .env('FARPOOL_MAX_QUEUED_PER_CLIENT')
        .argParser(count()),
    )
    .addOption(
      new Option('--max-running-per-client <n>', 'how many workers one client may have at once (default: all)')
        .env('FARPOOL_MAX_RUNNING_PER_CLIENT')
        .argParser(count()),
    )
    .addOption(
      new Option('--max-queued-bytes <n>', 'how many bytes of arguments may wait in a pool (default: 1 GiB)')
        .env('FARPOOL_MAX_QUEUED_BYTES')
        .argParser(count()),
    )
    .addOption(
      new Option('--max-pools <n>', 'how many pools clients may have open (default: 1000)')
        .env('FARPOOL_MAX_POOLS')
        .argParser(count(0)),
    )
    .addOption(
      new Option('--max-processes <n>', 'how many worker processes all pools may have together (default: 1024)')
        .env('FARPOOL_MAX_PROCESSES')
        .argParser(count()),
    )
    .addOption(
      new Option('--drain <ms>', 'how long calls in flight may take to end after SIGTERM')
        .env('FARPOOL_DRAIN')
        .default(30_000)
        .argParser(count(0)),
    )
    .addOption(
      new Option('--max-message-bytes <n>', 'the largest message (default: 72 MiB)')
        .env('FARPOOL_MAX_MESSAGE_BYTES')
        .argParser(count()),
    )
    .addOption(
      new Option(
        '--max-held-bytes <n>',
        'how many bytes to hold for all clients (default: 1 GiB, or a quarter of the memory)',
      )
        .env('FARPOOL_MAX_HELD_BYTES')
        .argParser(count()),
    )
    .addOption(
      new Option('--max-connections <n>', 'how many connections may be open (default: 1000)')
        .env('FARPOOL_MAX_CONNECTIONS')
        .argParser(count()),
    )
    .addOption(
      new Option('--max-streams <n>', 'how many calls of one connection may be open (default: 1000)')
        .env('FARPOOL_MAX_STREAMS')
        .argParser(count()),
    )
    .addOption(
      new Option('--max-metadata-bytes <n>', 'how long the headers of a call may be (default: 16 KiB)')
        .env('FARPOOL_MAX_METADATA_BYTES')
        .argParser(count()),
    )
    .addOption(
      new Option('--allow-terminate', 'let clients close and terminate the shared pool').env('FARPOOL_ALLOW_TERMINATE'),
    )
    .addOption(
      new Option('--stacks', 'send the stacks of functions (default: only on loopback and Unix sockets)').env(
        'FARPOOL_STACKS',
      ),
    )
    .addOption(new Option('--no-stacks', 'never send them'))
    .addOption(
      new Option('--log-level <level>', 'how much is logged')
        .env('FARPOOL_LOG_LEVEL')
        .choices(LOG_LEVELS)
        .default('info'),
    )
    .addOption(
      new Option(
        '--exit-on-stdin-end',
        'end when standard input ends: for a program that starts a server for itself',
      ).env('FARPOOL_EXIT_ON_STDIN_END'),
    )
    .action(
      async (
        modules: string[],
        options: Omit<ServeOptions, 'modules'> & {
          grace: number
          drain: number
          startTimeout: number
          runTimeout?: number
          exitOnStdinEnd?: boolean
        },
      ) => {
        const { grace, drain, startTimeout, runTimeout = 0, exitOnStdinEnd = false, ...rest } = options
        try {
          const times = { graceMs: grace, drainMs: drain, startTimeoutMs: startTimeout, runTimeoutMs: runTimeout }
          await run({ ...rest, ...times, modules }, exitOnStdinEnd)
        } catch (error) {
          fail(error)
          process.exitCode ||= Exit.FAILED
        }
      },
    )

async function run(options: ServeOptions, exitOnStdinEnd: boolean): Promise<void> {
  let server: RunningServer | undefined
  if (exitOnStdinEnd) {
    // While it is still starting, its workers end with it (pool/process/launcher.ts).
    process.stdin.resume().once('close', () => {
      if (!server) process.exit(Exit.FAILED)
      void server.stop().finally(() => process.exit(Exit.OK))
    })
  }
  server = await serve(options)
  endOnSignals(server)
}

/** The first SIGTERM or SIGINT drains, the second ends at once. */
function endOnSignals(server: RunningServer): void {
  let signals = 0
  const onSignal = (signal: NodeJS.Signals) => {
    server.logger.info({ signal }, signals === 0 ? 'draining; the same signal again ends at once' : 'ending at once')
    const end = signals++ === 0 ? server.drain() : server.stop()
    // What is still open now (a client that never reads, say) is not worth waiting for.
    end.then(
      () => process.exit(Exit.OK),
      (error: unknown) => {
        fail(error)
        process.exit(Exit.FAILED)
      },
    )
  }
  process.on('SIGTERM', onSignal)
  process.on('SIGINT', onSignal)
}
