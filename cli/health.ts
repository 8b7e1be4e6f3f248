import {
  credentials,
  type GrpcObject,
  loadPackageDefinition,
  type ServiceClientConstructor,
  type ServiceError,
} from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'
import { Command, Option } from 'commander'
import { protoPath } from 'grpc-health-check'
import { Exit } from './exit.js'
import { addressOption, count, jsonOption } from './options.js'

/** farpool health: the standard health check, for a container's HEALTHCHECK. */
export const healthCommand = () =>
  new Command('health')
    .description('ask grpc.health.v1.Health whether the server takes calls; the exit code is the answer')
    .addOption(addressOption())
    .addOption(new Option('-t, --timeout <ms>', 'give up after so long').default(2_000).argParser(count()))
    .addOption(jsonOption())
    .action(async (options: { address: string; timeout: number; json?: boolean }) => {
      const status = await check(options.address, options.timeout)
      process.stdout.write(`${options.json ? JSON.stringify({ status }) : status}\n`)
      process.exitCode = status === 'SERVING' ? Exit.OK : status === 'UNREACHABLE' ? Exit.UNAVAILABLE : Exit.FAILED
    })

function check(address: string, timeout: number): Promise<string> {
  const { grpc } = loadPackageDefinition(loadSync(protoPath, { enums: String })) as unknown as {
    grpc: { health: { v1: GrpcObject & { Health: ServiceClientConstructor } } }
  }
  const client = new grpc.health.v1.Health(address, credentials.createInsecure(), { 'grpc.enable_channelz': 0 })
  return new Promise((resolve) => {
    const deadline = Date.now() + timeout
    client['check']?.({ service: '' }, { deadline }, (error: ServiceError | null, response?: { status: string }) => {
      client.close()
      resolve(error ? 'UNREACHABLE' : (response?.status ?? 'UNKNOWN'))
    })
  })
}
