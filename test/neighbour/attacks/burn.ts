import { isMainThread, Worker, workerData } from 'node:worker_threads'
import type { Attack } from './target.js'

const SLICE_MS = 10

/** Burns so much of a CPU, in slices, for as long as it is there. */
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
 * Burns as much CPU as an attack made the server and its workers take, and touches no server: what is left of an attack's
 * harm where nobody but the CPUs has a part in it.
 */
export const BURN: Attack = {
  what: 'no attack: as much CPU burnt as the attack before made the server take',
  async run(target) {
    const { share } = target.options
    const count = Math.ceil(share)
    const threads = Array.from(
      { length: count },
      () => new Worker(new URL(import.meta.url), { workerData: { share: share / count } }),
    )
    target.did('CPUs', share)
    await target.over
    await Promise.all(threads.map((thread) => thread.terminate()))
  },
}
