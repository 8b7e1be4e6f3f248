import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Failure } from '../wire/failure.js'

/** What a server and a local pool have in common before there is an engine. */

/** How long a function may go on after its call was cancelled, in milliseconds; then its process is killed. */
export const GRACE_MS = 2_000

/** How long a worker may take to load its modules and run its initializer, in milliseconds. */
export const START_MS = 60_000

/**
 * The absolute path of a module: a path from the working directory, or a file: URL.
 * @throws Failure BAD_REQUEST if it is neither, MODULE_LOAD_FAILED if there is no such file.
 */
export function modulePath(module: string | URL): string {
  const given: unknown = module
  if (!(given instanceof URL) && (typeof given !== 'string' || given === '')) {
    const what = typeof given === 'string' ? '""' : given instanceof Object ? 'an object' : String(given)
    throw new Failure('BAD_REQUEST', `the module is ${what}; it must be a path or a URL`)
  }
  const isUrl = given instanceof URL || /^[a-z][a-z+.-]+:/i.test(given)
  if (isUrl && !String(given).startsWith('file:')) {
    throw new Failure('BAD_REQUEST', `the module is ${given}; it must be a path or a file: URL`)
  }
  const path = isUrl ? pathOf(given) : resolve(given as string)
  if (existsSync(path)) return path
  throw new Failure('MODULE_LOAD_FAILED', `there is no module ${path}`)
}

function pathOf(url: string | URL): string {
  try {
    return fileURLToPath(url)
  } catch (error) {
    throw new Failure(
      'BAD_REQUEST',
      `the module is ${url}, which is no file: URL of a file: ${(error as Error).message}`,
    )
  }
}
