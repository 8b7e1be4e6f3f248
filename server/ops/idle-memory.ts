import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { EnginePool } from '../../pool/engine.js'

const LOOK_EVERY_MS = 1_000
/** Less is not worth it: a collection also drops code that has not run for a while, and the next calls are slow. */
const GROWN_BYTES = 96 * 1024 * 1024
/** Pages are given back bit by bit: a heap that has grown much takes six of them. */
const COLLECTIONS = 8

/**
 * Gives memory back when there is nothing to do. V8 collects when a program allocates: one that stops, as a server does
 * when its queue has drained or its clients have gone, keeps what the busiest moment took. Returns how to stop.
 *
 * @param held what is held for clients, in bytes.
 */
export function giveBackWhenIdle(pools: () => readonly EnginePool[], held: () => number): () => void {
  setFlagsFromString('--expose-gc')
  const collect: () => void = runInNewContext('gc')
  const began = process.memoryUsage.rss()
  let left = 0
  let isCollecting = false
  let submitted = 0
  let bytes = 0
  const timer = setInterval(() => {
    const before = submitted
    submitted = 0
    const bytesBefore = bytes
    bytes = held()
    let open = 0
    for (const { stats } of pools()) {
      submitted += stats.submitted
      open += stats.queued + stats.running
    }
    if (open > 0 || submitted !== before || bytes !== bytesBefore) {
      left = COLLECTIONS
      isCollecting = false
    } else if (left > 0 && (isCollecting || process.memoryUsage.rss() > began + GROWN_BYTES)) {
      isCollecting = true
      left--
      collect()
    }
  }, LOOK_EVERY_MS)
  timer.unref()
  return () => clearInterval(timer)
}
