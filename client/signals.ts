/** Who listens to a signal. One listener of ours stands for all, however many calls share the signal. */
const listeners = new WeakMap<AbortSignal, Set<() => void>>()

/** Calls back once when the signal fires, at once if it has; returns how to stop listening. */
export function onAbort(signal: AbortSignal, callback: () => void): () => void {
  if (signal.aborted) {
    callback()
    return () => {}
  }
  const known = listeners.get(signal)
  const callbacks = known ?? new Set()
  callbacks.add(callback)
  if (!known) {
    listeners.set(signal, callbacks)
    signal.addEventListener('abort', () => fire(callbacks), { once: true })
  }
  return () => callbacks.delete(callback)
}

function fire(callbacks: Set<() => void>): void {
  for (const callback of [...callbacks]) callback()
  callbacks.clear()
}
