import { writeSync } from 'node:fs'
import { currentTask } from 'farpool/worker'
import { words } from './words.js'

/** Where a worker writes what it says. */
const WORDS_FD = 4

export { add } from './functions.js'

/** Says what the case of this number has to say, in the worker's own voice, before it returns. */
export function babble(seed: number, number: number): number {
  const bytes = words(seed, number, currentTask().id)
  for (let written = 0; written < bytes.length; ) {
    try {
      written += writeSync(WORDS_FD, bytes, written)
    } catch (error) {
      // Full for now: the server reads on.
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error
    }
  }
  return number
}
