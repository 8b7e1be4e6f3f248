import { existsSync, readFileSync } from 'node:fs'
import type { FarpoolError, Pool } from 'farpool'
import { expect } from 'vitest'
import { until } from './server.js'

/** The error of a call. The test fails where the call has a result. */
export const errorOf = (call: PromiseLike<unknown>): Promise<FarpoolError> =>
  Promise.resolve(call).then(
    (value) => expect.unreachable(`it has a result: ${value}`),
    (error: FarpoolError) => error,
  )

/** The number of lines in a file that functions append to; 0 where it does not exist. */
export const linesOf = (file: string): number =>
  existsSync(file) ? readFileSync(file, 'utf8').split('\n').length - 1 : 0

/** The process ids of a pool's workers. */
export const workerPids = async (pool: Pool): Promise<number[]> => (await pool.info()).workers.map(({ pid }) => pid)

/** Starts a task that runs until the file `${file}.go` exists. Resolves when it has begun, with its worker's process id. */
export async function waiting(pool: Pool, file: string) {
  const result = pool.applyAsync('waitFor', [file, `${file}.go`, 'went on'])
  await until(() => linesOf(file) === 1, 'it has begun')
  return { result, pid: Number(readFileSync(file, 'utf8')) }
}
