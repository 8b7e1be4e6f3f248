import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import {
  credentials,
  loadPackageDefinition,
  makeGenericClientConstructor,
  type ServiceClientConstructor,
} from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'
import { service as healthService } from 'grpc-health-check'
import { describe, expect, it } from 'vitest'
import { sharedFarm } from '../support/farm.js'
import { ServerProcess, until } from '../support/server.js'
import { answer } from '../support/stub.js'

/** The standard services that a server offers besides its own. */

const farm = sharedFarm()

describe('health and reflection', () => {
  it('answer SERVING to Check, and an open Watch does not keep a draining server alive', async () => {
    await using other = await ServerProcess.start(['--processes', '1'])
    const Health = makeGenericClientConstructor(healthService, 'Health')
    const health = new Health(other.address, credentials.createInsecure())
    for (const service of ['', 'farpool.v1.PoolService']) {
      const response = await answer<{ status: string }>((done) => health['check']?.({ service }, done))
      expect(response.status).toBe('SERVING')
    }
    const watch = health['watch']?.({ service: '' })
    const seen: string[] = []
    watch.on('data', ({ status: now }: { status: string }) => seen.push(now))
    watch.on('error', () => {})
    await until(() => seen.length === 1, 'the watch has begun')
    other.signal('SIGTERM')
    expect(await other.exited).toBe(0)
    expect(seen).toEqual(['SERVING', 'NOT_SERVING'])
    health.close()
  })

  it('list all services, and describe PoolService with its imports, as grpcurl needs it', async () => {
    const root = dirname(createRequire(import.meta.url).resolve('@grpc/reflection/package.json'))
    const definition = loadSync(join(root, 'build/proto/grpc/reflection/v1/reflection.proto'), { bytes: Buffer })
    const { grpc: loaded } = loadPackageDefinition(definition) as unknown as {
      grpc: { reflection: { v1: { ServerReflection: ServiceClientConstructor } } }
    }
    const reflection = new loaded.reflection.v1.ServerReflection(farm.address, credentials.createInsecure())
    const ask = (question: object): Promise<unknown> =>
      new Promise((resolve, reject) => {
        const stream = reflection['ServerReflectionInfo']?.()
        stream.on('data', resolve)
        stream.on('error', reject)
        stream.write(question)
        stream.end()
      })
    const { listServicesResponse } = (await ask({ listServices: '' })) as {
      listServicesResponse: { service: { name: string }[] }
    }
    const names = listServicesResponse.service.map(({ name }) => name)
    expect(names).toEqual(expect.arrayContaining(['farpool.v1.PoolService', 'grpc.health.v1.Health']))
    const { fileDescriptorResponse } = (await ask({ fileContainingSymbol: 'farpool.v1.PoolService' })) as {
      fileDescriptorResponse: { fileDescriptorProto: Buffer[] }
    }
    const files = fileDescriptorResponse.fileDescriptorProto.map(String).join()
    for (const file of [
      'farpool/v1/pool_service.proto',
      'farpool/v1/payload.proto',
      'google/rpc/status.proto',
      'google/protobuf/any.proto',
    ]) {
      expect(files).toContain(file)
    }
    reflection.close()
  })
})
