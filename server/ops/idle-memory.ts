import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { EnginePool } from '../../pool/engine.js'
import { availableMemory } from './host-limits.js'

const CHECK_EVERY_MS = 1_000
/**
 * Less growth is not worth a collection, which also drops compiled code: the next calls are slow. In a small container it is
 * a sixteenth of the memory.
 */
const MIN_GROWTH_BYTES = 96 * 1024 * 1024
const MIN_GROWTH_PART = 1 / 16
/** One collection gives back only part of the free pages. A heap that has grown much needed six. */
const COLLECTIONS = 8

/**
 * Gives memory back to the system while the server is idle. V8 collects garbage when a program allocates, so an idle
 * server would keep the memory of its busiest moment. The server is idle if no task waits or runs, and if within one
 * CHECK_EVERY_MS no task was submitted and `heldBytes` did not change.
 *
 * @param heldBytes the bytes that the server holds for its clients now.
 * @returns stops the checks.
 */
export function giveBackWhenIdle(pools: () => readonly EnginePool[], heldBytes: () => number): () => void {
  setFlagsFromString('--expose-gc')
  const collect: () => void = runInNewContext('gc')
  const growth = Math.min(MIN_GROWTH_BYTES, availableMemory() * MIN_GROWTH_PART)
  const most = process.memoryUsage.rss() + growth
  let collectionsLeft = 0
  let isCollecting = false
  let last = { submitted: 0, held: 0 }
  const timer = setInterval(() => {
    const now = { submitted: 0, held: heldBytes() }
    let open = 0
    for (const { stats } of pools()) {
      now.submitted += stats.submitted
      open += stats.queued + stats.running
    }
    const isIdle = open === 0 && now.submitted === last.submitted && now.held === last.held
    last = now
    if (!isIdle) {
      collectionsLeft = COLLECTIONS
      isCollecting = false
    } else if (collectionsLeft > 0 && (isCollecting || process.memoryUsage.rss() > most)) {
      isCollecting = true
      collectionsLeft--
      collect()
    }
  }, CHECK_EVERY_MS)
  timer.unref()
  return () => clearInterval(timer)
}
