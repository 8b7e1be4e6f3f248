import { existsSync, readFileSync } from 'node:fs'
import type { FarpoolError, Pool } from 'farpool'
import { expect } from 'vitest'
import { until } from './server.js'

/** What a call fails with; one that succeeds fails the test. */
export const errorOf = (call: PromiseLike<unknown>): Promise<FarpoolError> =>
  Promise.resolve(call).then(
    (value) => expect.unreachable(`it has a result: ${value}`),
    (error: FarpoolError) => error,
  )

/** How many lines a file has that functions write to; none where it is not there. */
export const linesOf = (file: string): number =>
  existsSync(file) ? readFileSync(file, 'utf8').split('\n').length - 1 : 0

/** A worker that has begun a task, which waits for `${file}.go` and then has a result. */
export async function waiting(pool: Pool, file: string) {
  const result = pool.applyAsync('waitFor', [file, `${file}.go`, 'went on'])
  await until(() => linesOf(file) === 1, 'it has begun')
  return { result, pid: Number(readFileSync(file, 'utf8')) }
}
