import { readFileSync } from 'node:fs'
import { BinaryReader } from '@bufbuild/protobuf/wire'
import type { Server } from '@grpc/grpc-js'
import { ReflectionService } from '@grpc/reflection'

// Both from the sources and from dist/, the descriptor sets lie beside the generated code.
const DESCRIPTOR_SETS = ['farpool.binpb', 'health.binpb'].map(
  (name) => new URL(`../../proto/gen/${name}`, import.meta.url),
)

/**
 * grpc.reflection.v1 and v1alpha, so that grpcurl needs no files. From the compiler's descriptor sets, whole and with
 * all they import: what a loader makes of .proto files at run time is one file for each package that names no
 * imports, and maps that grpcurl cannot link.
 */
export function addReflection(server: Server): void {
  const fileDescriptorProtos = DESCRIPTOR_SETS.flatMap((set) => filesOf(readFileSync(set)))
  // ReflectionService reads nothing but the files of a definition; an enum's has nothing beside them.
  const definition = { format: 'Protocol Buffer 3 EnumDescriptorProto', type: {}, fileDescriptorProtos } as const
  new ReflectionService({ farpool: definition }).addToServer(server)
}

/** The files of a google.protobuf.FileDescriptorSet (field 1, repeated). */
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
