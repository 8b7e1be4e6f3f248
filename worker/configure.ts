/** The options of one function, set by the module that exports it. */
export interface FunctionOptions {
  /**
   * How often a task is run again after its worker died while running it. The number of a call takes precedence. Default 0.
   * Set it only for a function that may run twice.
   */
  readonly retries?: number
  /**
   * How long one task, a call or a chunk of a map, may run, in milliseconds. The limit of a call takes precedence. Default:
   * the limit of the server.
   */
  readonly runTimeout?: number
  /**
   * What the server does with the process if the function goes on after its call was cancelled or took too long:
   * 'after-grace' kills it after the grace of the server (default); 'never' lets it work until the function ends.
   */
  readonly kill?: 'after-grace' | 'never'
}

/** The property that holds the options. A module can also set it itself, without importing farpool. */
const KEY = 'farpool'

/**
 * Sets the options of a function and returns the function:
 * `export const render = configure(async (page) => …, { retries: 2 })`.
 * Options that are not valid make the start of the server fail.
 */
export function configure<F extends (...args: never[]) => unknown>(fn: F, options: FunctionOptions): F {
  return Object.assign(fn, { [KEY]: options })
}

/** The options of a function, with their defaults. @throws Error that names the option that is not valid. */
export function optionsOf(fn: object): { retries: number; runTimeoutMs: number; neverKilled: boolean } {
  const given: unknown = Object.hasOwn(fn, KEY) ? (fn as { [KEY]: unknown })[KEY] : {}
  if (typeof given !== 'object' || given === null)
    throw new Error(`its options are ${String(given)}; they must be an object`)
  const { retries = 0, runTimeout = 0, kill = 'after-grace', ...others } = given as Record<string, unknown>
  const [other] = Object.keys(others)
  if (other !== undefined)
    throw new Error(`it has the unknown option ${other}; the options are retries, runTimeout and kill`)
  if (!isCount(retries)) throw new Error(`its retries are ${String(retries)}; they must be an integer, 0 or more`)
  if (!isCount(runTimeout)) {
    throw new Error(`its runTimeout is ${String(runTimeout)}; it must be a whole number of milliseconds, 0 for none`)
  }
  if (kill !== 'after-grace' && kill !== 'never') {
    throw new Error(`its kill is ${JSON.stringify(kill)}; it must be 'after-grace' or 'never'`)
  }
  return { retries, runTimeoutMs: runTimeout, neverKilled: kill === 'never' }
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0
