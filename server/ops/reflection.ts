import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { BinaryReader } from '@bufbuild/protobuf/wire'
import type { Server } from '@grpc/grpc-js'
import { packageFile } from '../../wire/package.js'
import { addLazyService } from '../grpc/lazy-service.js'

const DESCRIPTOR_SETS = ['proto/gen/farpool.binpb', 'proto/gen/health.binpb']

/**
 * Adds gRPC server reflection (v1 and v1alpha), so that grpcurl needs no .proto files. It serves the descriptor sets that
 * the protobuf compiler wrote, with all their imports. A loader of .proto files at run time is no substitute: it makes one
 * file per package, leaves out the imports, and grpcurl cannot link its map fields.
 */
export function addReflection(server: Server): void {
  addLazyService(server, METHODS, (server) => {
    const { ReflectionService }: typeof import('@grpc/reflection') = createRequire(import.meta.url)('@grpc/reflection')
    const fileDescriptorProtos = DESCRIPTOR_SETS.flatMap((set) => filesOf(readFileSync(packageFile(set))))
    // ReflectionService reads only the files of a definition. The format for enums requires no other field.
    const definition = { format: 'Protocol Buffer 3 EnumDescriptorProto', type: {}, fileDescriptorProtos } as const
    new ReflectionService({ farpool: definition }).addToServer(server)
  })
}

const METHODS = ['v1', 'v1alpha'].map((version) => ({
  path: `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`,
  requestStream: true,
  responseStream: true,
}))

/** The files of a google.protobuf.FileDescriptorSet: its field 1, repeated. */
function filesOf(descriptorSet: Buffer): Buffer[] {
  const reader = new BinaryReader(descriptorSet)
  const files: Buffer[] = []
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag()
    if (field === 1) files.push(Buffer.from(reader.bytes()))
    else reader.skip(wireType)
  }
  return files
}
