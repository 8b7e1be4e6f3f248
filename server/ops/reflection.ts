import { readFileSync } from 'node:fs'
import { BinaryReader } from '@bufbuild/protobuf/wire'
import type { Server } from '@grpc/grpc-js'
import { loadSync, type PackageDefinition } from '@grpc/proto-loader'
import { ReflectionService } from '@grpc/reflection'
import { protoPath as healthProto } from 'grpc-health-check'

// Both from the sources and from dist/, the descriptor set lies beside the generated code.
const DESCRIPTORS = new URL('../../proto/gen/farpool.binpb', import.meta.url)

/**
 * grpc.reflection.v1 and v1alpha, so that grpcurl needs no files. Our own files come from the compiler's descriptor
 * set, whole and with all they import: what proto-loader makes of a package is one file that names no imports, which
 * grpcurl cannot link.
 */
export function addReflection(server: Server): void {
  new ReflectionService({ ...loadSync(healthProto), ...compiled(readFileSync(DESCRIPTORS)) }).addToServer(server)
}

/** The files of a google.protobuf.FileDescriptorSet (field 1, repeated), in the one form that ReflectionService reads. */
function compiled(descriptorSet: Buffer): PackageDefinition {
  const reader = new BinaryReader(descriptorSet)
  const fileDescriptorProtos: Buffer[] = []
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag()
    if (field === 1) fileDescriptorProtos.push(Buffer.from(reader.bytes()))
    else reader.skip(wireType)
  }
  // ReflectionService reads nothing but the files of a definition; an enum's has nothing beside them.
  return { farpool: { format: 'Protocol Buffer 3 EnumDescriptorProto', type: {}, fileDescriptorProtos } }
}
