import {
  credentials,
  type GrpcObject,
  loadPackageDefinition,
  type ServiceClientConstructor,
  type ServiceError,
} from '@grpc/grpc-js'
import { Command, Option } from 'commander'
import { Pool } from '../client/index.js'
import { checkAddress, isLoopback } from '../wire/address.js'
import { printableJson, printableLine } from '../wire/printable.js'
import { addressOption, count, jsonOption, poolOption } from './command-options.js'
import { Exit, errorJson, fail } from './exit-codes.js'
import { print } from './output.js'

interface Options {
  address: string
  pool: string
  json?: boolean
}

/** farpool functions: lists the functions. */
export const functionsCommand = () =>
  new Command('functions')
    .description('list the functions of a shared pool')
    .addOption(addressOption())
    .addOption(poolOption())
    .addOption(jsonOption())
    .action((options: Options) =>
      show(options, async (pool) => {
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
  new Command('info')
    .description('show the server, and the state, the workers and the counters of a shared pool')
    .addOption(addressOption())
    .addOption(poolOption())
    .addOption(jsonOption())
    .action((options: Options) =>
      show(options, async (pool) => {
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

async function show(options: Options, read: (pool: Pool) => Promise<{ json: object; lines: string[] }>): Promise<void> {
  try {
    await using pool = new Pool(options.address, { pool: options.pool })
    const { json, lines } = await read(pool)
    await print(`${options.json ? printableJson(json) : lines.map(printableLine).join('\n')}\n`)
  } catch (error) {
    await fail(error, options.json)
  }
}

/** farpool health: the standard gRPC health check, for example for a container's HEALTHCHECK. */
export const healthCommand = () =>
  new Command('health')
    .description('ask grpc.health.v1.Health for the status; exit code 0: SERVING, 1: any other status, 3: no answer')
    .addOption(addressOption())
    .addOption(
      new Option('-t, --timeout <ms>', 'how long to wait for the answer, in milliseconds')
        .default(2_000)
        .argParser(count()),
    )
    .addOption(jsonOption())
    .action(async (options: { address: string; timeout: number; json?: boolean }) => {
      try {
        checkAddress('address', options.address)
        const status = await check(options.address, options.timeout)
        process.exitCode = status === 'SERVING' ? Exit.OK : status === 'UNREACHABLE' ? Exit.UNAVAILABLE : Exit.FAILED
        await print(`${options.json ? printableJson({ status }) : printableLine(status)}\n`)
      } catch (error) {
        await fail(error, options.json)
      }
    })

async function check(address: string, timeout: number): Promise<string> {
  // Loaded here, because every command loads this file, and a server needs neither.
  const [{ loadSync }, { protoPath }] = await Promise.all([import('@grpc/proto-loader'), import('grpc-health-check')])
  const { grpc } = loadPackageDefinition(loadSync(protoPath, { enums: String })) as unknown as {
    grpc: { health: { v1: GrpcObject & { Health: ServiceClientConstructor } } }
  }
  const client = new grpc.health.v1.Health(address, credentials.createInsecure(), {
    'grpc.enable_channelz': 0,
    'grpc.enable_http_proxy': isLoopback(address) ? 0 : 1,
  })
  return new Promise((resolve) => {
    const deadline = Date.now() + timeout
    client['check']?.({ service: '' }, { deadline }, (error: ServiceError | null, response?: { status: string }) => {
      client.close()
      resolve(error ? 'UNREACHABLE' : (response?.status ?? 'UNKNOWN'))
    })
  })
}
