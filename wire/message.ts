import { BinaryReader, WireType } from '@bufbuild/protobuf/wire'

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/**
 * Decodes a message that another peer made, strictly: generated decoders stop without a word at a tag that cannot be,
 * and replace bytes that are not UTF-8. @throws Error that says what is wrong.
 */
export function decodeStrictly<T>(message: { decode(reader: BinaryReader): T }, bytes: Uint8Array): T {
  const reader = new BinaryReader(bytes)
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag()
    if (wireType === WireType.EndGroup) throw new Error('a group ends that never began')
    reader.skip(wireType, field)
  }
  return message.decode(new BinaryReader(bytes, (text) => utf8.decode(text)))
}
