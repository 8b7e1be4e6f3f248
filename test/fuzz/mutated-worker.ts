import { writeSync } from 'node:fs'
import { currentTask } from 'farpool/worker'
import { workerReports } from './worker-reports.js'

/** The file descriptor on which a worker sends its reports. */
const REPORTS_FD = 4

export { add } from './functions.js'

/** Sends the mutated reports of a case to the server, as if the worker had sent them. Then returns. */
export function sendMutated(seed: number, number: number): number {
  const bytes = workerReports(seed, number, currentTask().id)
  for (let written = 0; written < bytes.length; ) {
    try {
      written += writeSync(REPORTS_FD, bytes, written)
    } catch (error) {
      // The pipe is full; the server will read it.
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error
    }
  }
  return number
}
