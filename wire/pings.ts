import { PING_MS } from './protocol.js'

/**
 * Pings a peer again and again; one ping at a time. Its timer does not keep the program alive.
 * @param ping sends a ping. It calls `answered` when the answer comes, or when there will be none.
 * @param late is called every PING_MS while a ping has no answer, with the time for which it has had none. Time counts in
 *   turns of the timer: while this process is stopped itself, no peer is late.
 * @returns a function that ends it.
 */
export function pingPeer(ping: (answered: () => void) => void, late: (silentMs: number) => void): () => void {
  let silentMs: number | undefined
  const timer = setInterval(() => {
    if (silentMs !== undefined) {
      silentMs += PING_MS
      return late(silentMs)
    }
    silentMs = 0
    ping(() => {
      silentMs = undefined
    })
  }, PING_MS)
  timer.unref()
  return () => clearInterval(timer)
}
