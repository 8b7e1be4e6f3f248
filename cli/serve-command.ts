import { setFlagsFromString } from 'node:v8'
import { Command, Option } from 'commander'
import { readTokens } from '../server/auth/token-file.js'
import { functionsOfPools } from '../server/check.js'
import type { ServeConfig, ServeOptions } from '../server/config.js'
import { TlsCredentials } from '../server/grpc/certificates.js'
import { type RunningServer, serve } from '../server/index.js'
import { availableMemory } from '../server/ops/host-limits.js'
import { defaultLogFormat, LOG_FORMATS, Log, type LogFormat } from '../server/ops/log.js'
import { boolean, OPTIONS, type OptionSpec } from '../server/option-table.js'
import { resolveConfig } from '../server/resolve-config.js'
import { printableJson, printableLine } from '../wire/printable.js'
import { jsonOption, optionsIn } from './command-options.js'
import { addOption, addServerOptions, givenFor, printedConfig, readConfiguration } from './configuration.js'
import { unreadVariables } from './environment.js'
import { Exit, errorJson, exitCodeOf, fail, remoteStack } from './exit-codes.js'
import { print } from './output.js'

const MODULES = 'ES modules, CommonJS modules, or TypeScript (Node 22.18 or newer)'

/** An option of the command alone: only a program that starts its own server needs it. */
const EXIT_ON_STDIN_END: OptionSpec = {
  name: 'exit-on-stdin-end',
  about: 'exit when standard input ends, for a program that starts its own server',
  schema: boolean,
  default: false,
}

/** farpool serve: runs a server until SIGTERM or SIGINT. */
export const serveCommand = () =>
  addOption(
    addServerOptions(
      new Command('serve')
        .description('run a server whose workers execute the functions that the modules export')
        .argument('[modules...]', MODULES),
    ),
    EXIT_ON_STDIN_END,
  )
    .addOption(new Option('--print-config', 'print the configuration, with the source of each value, and exit'))
    .action(async (modules: string[], { printConfig }: { printConfig?: true }, command: Command) => {
      const configuration = await readConfiguration(modules, command)
      const { options, label } = configuration
      try {
        const config = resolveConfig(options, label)
        if (printConfig) return await print(printedConfig(config, configuration))
        await warnOfUnread(command, config)
        const exitOnStdinEnd = givenFor(command, EXIT_ON_STDIN_END)?.value === true
        await run(options, exitOnStdinEnd)
      } catch (error) {
        await failToStart(error, logFormatOf(options.logFormat))
      }
    })

async function warnOfUnread(command: Command, { logLevel, logFormat }: ServeConfig): Promise<void> {
  const variables = unreadVariables(command, process.env)
  if (variables.length === 0) return
  const { logger } = await Log.open(logLevel, logFormat)
  logger.warn({ variables }, 'variables of the environment that only clients read')
}

/** The format of the log, also if the command line is wrong. */
export const logFormatIn = (words: readonly string[]): LogFormat =>
  logFormatOf(optionsIn(addOption(new Command(), OPTIONS.logFormat), words)['logFormat'])

const logFormatOf = (given: unknown): LogFormat => LOG_FORMATS.find((format) => format === given) ?? defaultLogFormat()

/** Sets the exit code, and says as the log does why the server did not start. */
export async function failToStart(error: unknown, format: LogFormat): Promise<void> {
  if (format === 'pretty') return fail(error)
  process.exitCode = exitCodeOf(error)
  const { message, ...facts } = errorJson(error)
  const { logger } = await Log.open('fatal', format)
  logger.fatal({ ...facts, stack: remoteStack(error) }, message)
}

/** farpool check: what `farpool serve` would check before it listens. */
export const checkCommand = () =>
  addServerOptions(
    new Command('check')
      .description('check the configuration of a server and load its modules, without serving')
      .argument('[modules...]', MODULES),
  )
    .addOption(jsonOption())
    .action(async (modules: string[], { json }: { json?: true }, command: Command) => {
      try {
        const { options, label } = await readConfiguration(modules, command)
        const config = resolveConfig(options, label)
        await TlsCredentials.from(config)
        if (config.tokens !== undefined) await readTokens(config.tokens)
        const pools = await functionsOfPools(config)
        const names = [...pools].map(([pool, functions]) => [pool, functions.map(({ name }) => name)] as const)
        const lines = names.map(([pool, functions]) => `pool ${pool}: ${functions.join(', ') || 'no functions'}`)
        await print(
          json
            ? `${printableJson({ ok: true, pools: Object.fromEntries(names) })}\n`
            : `${[...lines, 'the configuration is valid'].map(printableLine).join('\n')}\n`,
        )
      } catch (error) {
        await fail(error, json)
      }
    })

/**
 * V8 collects the heap when it has grown by this much, in percent. The buffers of large values count as growth, so a small
 * heap is collected once for every few megabytes that pass through: half of the server's time in an echo of 1 MiB values.
 * V8 itself chooses from 10 to 300 (docs/explanation/performance.md). Workers do not inherit it.
 */
const HEAP_GROWING_PERCENT = 300

/** With less memory, the garbage would take what clients and functions need. */
const PLENTY_BYTES = 2 * 1024 * 1024 * 1024

async function run(options: ServeOptions, exitOnStdinEnd: boolean): Promise<void> {
  if (availableMemory() >= PLENTY_BYTES) setFlagsFromString(`--heap-growing-percent=${HEAP_GROWING_PERCENT}`)
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
    (error: unknown) => {
      server.logger.fatal({ err: error }, 'internal fault')
      process.exit(Exit.FAILED)
    },
  )
}
