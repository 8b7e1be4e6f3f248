import { isMainThread, Worker, workerData } from 'node:worker_threads'
import type { Attack } from './target.js'

const SLICE_MS = 10

/** Keeps one CPU busy for this part of the time (0 to 1), until the thread ends. */
function burn(share: number): void {
  const spinMs = SLICE_MS * share
  const slice = () => {
    const from = performance.now()
    while (performance.now() < from + spinMs);
    setTimeout(slice, SLICE_MS - spinMs)
  }
  slice()
}

if (!isMainThread) burn(workerData.share)

/**
 * The control. It burns as much CPU as the attack before cost the server and its workers, and does not call the server. The
 * slowdown beside it is the part of an attack's harm that comes from busy CPUs alone.
 */
export const BURN: Attack = {
  what: 'no attack: burns as much CPU as the attack before cost the server',
  async run(target) {
    const { cpus } = target.options
    const count = Math.ceil(cpus)
    const threads = Array.from(
      { length: count },
      () => new Worker(new URL(import.meta.url), { workerData: { share: cpus / count } }),
    )
    target.did('CPUs', cpus)
    await target.over
    await Promise.all(threads.map((thread) => thread.terminate()))
  },
}
