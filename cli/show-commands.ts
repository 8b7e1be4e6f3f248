import { type GrpcObject, loadPackageDefinition, type ServiceClientConstructor, type ServiceError } from '@grpc/grpc-js'
import { Command, Option } from 'commander'
import { Pool } from '../client/index.js'
import { watchedCredentials } from '../client/transport/connecting.js'
import { failureOf } from '../client/transport/grpc-status.js'
import { type ClientTls, clientTls } from '../client/transport/tls.js'
import { OPTIONS } from '../server/option-table.js'
import { checkAddress, mayUseProxy, reachedAt } from '../wire/address.js'
import { printable, printableJson, printableLine } from '../wire/printable.js'
import { clientCommand, connectionOf, count, jsonOption, poolCommand } from './command-options.js'
import { addServerOptions, readConfiguration } from './configuration.js'
import { Exit, errorJson, fail } from './exit-codes.js'
import { print } from './output.js'

interface Options {
  address: string
  json?: boolean
}

/** farpool functions: lists the functions. */
export const functionsCommand = () =>
  poolCommand('functions')
    .description('list the functions of a shared pool that the client may call')
    .addOption(jsonOption())
    .action((options: Options, command: Command) =>
      show(options, command, async (pool) => {
        const functions = await pool.functions()
        const width = Math.max(...functions.map(({ name }) => name.length))
        return {
          json: { functions },
          lines: functions.map(
            ({ name, parameters, module }) => `${name.padEnd(width)}  ${counted(parameters, 'parameter')}  ${module}`,
          ),
        }
      }),
    )

/** farpool info: shows the server and one of its shared pools. */
export const infoCommand = () =>
  poolCommand('info')
    .description('show the server, and the state, the workers and the counters of a shared pool')
    .addOption(jsonOption())
    .action((options: Options, command: Command) =>
      show(options, command, async (pool) => {
        const { failure, ...info } = await pool.info()
        const { server, tasks } = info
        const lines = [
          `farpool ${server.version} on ${server.runtime}, messages up to ${server.maxMessageBytes} bytes, grace ${server.graceMs} ms`,
          ...(server.pools.length > 1 ? [`shared pools: ${server.pools.join(', ')}`] : []),
          `pool ${info.pool}: ${info.state}, ${counted(info.processes, 'process', 'processes')}, ${info.queued} queued, ${info.running} running`,
          ...(failure ? [`failed: ${failure.message} (${failure.reason})`] : []),
          `tasks: ${Object.entries(tasks)
            .map(([name, count]) => `${count} ${name}`)
            .join(', ')}; workers started: ${info.workersStarted}`,
          ...info.workers.map(
            ({ pid, state, tasks: done, function: name }) =>
              `worker ${pid}: ${state}${name && ` ${name}`}, ${counted(done, 'task')}`,
          ),
        ]
        return { json: { ...info, ...(failure && { failure: errorJson(failure) }) }, lines }
      }),
    )

const counted = (count: number, one: string, many = `${one}s`): string => `${count} ${count === 1 ? one : many}`

async function show(
  options: Options,
  command: Command,
  read: (pool: Pool) => Promise<{ json: object; lines: string[] }>,
): Promise<void> {
  try {
    await using pool = new Pool(options.address, connectionOf(command))
    const { json, lines } = await read(pool)
    await print(`${options.json ? printableJson(json) : lines.map(printableLine).join('\n')}\n`)
  } catch (error) {
    await fail(error, options.json)
  }
}

/** farpool health: the standard gRPC health check, for example for a container's HEALTHCHECK. */
export const healthCommand = () =>
  clientCommand('health')
    .description('ask grpc.health.v1.Health for the status; exit code 0: SERVING, 1: any other status, 3: no answer')
    .addOption(
      new Option('-t, --timeout <ms>', 'how long to wait for the answer, in milliseconds')
        .default(2_000)
        .argParser(count()),
    )
    .addOption(
      new Option(
        '--own',
        'ask the server that the configuration of this environment describes: FARPOOL_CONFIG, FARPOOL_LISTEN …',
      ),
    )
    .addOption(jsonOption())
    .action(async (options: HealthOptions, command: Command) => {
      try {
        const { address, tls } = options.own ? await ownServer() : asked(options.address, command)
        const status = await check(address, options.timeout, tls)
        process.exitCode = status === 'SERVING' ? Exit.OK : status === 'UNREACHABLE' ? Exit.UNAVAILABLE : Exit.FAILED
        await print(`${options.json ? printableJson({ status }) : printableLine(status)}\n`)
      } catch (error) {
        await fail(error, options.json)
      }
    })

interface HealthOptions extends Options {
  timeout: number
  own?: true
}

interface Checked {
  readonly address: string
  readonly tls: ClientTls | undefined
}

function asked(address: string, command: Command): Checked {
  checkAddress('address', address)
  const { tls } = connectionOf(command)
  return { address, tls: tls ? clientTls(address, tls) : undefined }
}

/**
 * The server of this container. Nothing that the check sends is a secret, and it does not leave this machine, so it trusts any
 * certificate: the server may be about to replace its own, or have kept an old one.
 */
async function ownServer(): Promise<Checked> {
  const serve = addServerOptions(new Command()).exitOverride().parse([], { from: 'user' })
  const { listen = OPTIONS.listen.default, tlsCert: cert, tlsKey: key } = (await readConfiguration([], serve)).options
  checkAddress('listen', listen)
  const address = reachedAt(listen)
  return { address, tls: cert && key ? clientTls(address, { cert, key }, 'any') : undefined }
}

async function check(address: string, timeout: number, tls: ClientTls | undefined): Promise<string> {
  // Loaded here, because every command loads this file, and a server needs neither.
  const [{ loadSync }, { protoPath }] = await Promise.all([import('@grpc/proto-loader'), import('grpc-health-check')])
  const { grpc } = loadPackageDefinition(loadSync(protoPath, { enums: String })) as unknown as {
    grpc: { health: { v1: GrpcObject & { Health: ServiceClientConstructor } } }
  }
  const client = new grpc.health.v1.Health(address, watchedCredentials(tls), {
    'grpc.enable_channelz': 0,
    'grpc.enable_http_proxy': mayUseProxy(address) ? 1 : 0,
  })
  return new Promise((resolve) => {
    const deadline = Date.now() + timeout
    client['check']?.({ service: '' }, { deadline }, (error: ServiceError | null, response?: { status: string }) => {
      client.close()
      if (error) process.stderr.write(`farpool: ${printable(failureOf(error).message)}\n`)
      resolve(error ? 'UNREACHABLE' : (response?.status ?? 'UNKNOWN'))
    })
  })
}
