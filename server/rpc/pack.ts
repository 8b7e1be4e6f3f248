import { FRAME_TARGET_BYTES } from '../../wire/limits.js'

/** Packs what is ready into few messages of a bounded size: grpc-js counts messages, not bytes, for backpressure. */
export function* pack<T>(items: readonly T[], bytesOf: (item: T) => number): Generator<T[]> {
  let packed: T[] = []
  let bytes = 0
  for (const item of items) {
    packed.push(item)
    bytes += bytesOf(item)
    if (bytes < FRAME_TARGET_BYTES) continue
    yield packed
    packed = []
    bytes = 0
  }
  if (packed.length > 0) yield packed
}
