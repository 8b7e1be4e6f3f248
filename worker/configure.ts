/** What a module can say about one of its functions. Times are in milliseconds. */
export interface FunctionOptions {
  /** How often a call is run again after its worker died while running it, unless the call says otherwise. Default 0. Only for a function that may run twice. */
  readonly retries?: number
  /** How long one task of it (a call, or a chunk of a map) may run, unless the call says otherwise. Default: the server's limit. */
  readonly runTimeout?: number
  /**
   * What becomes of its process when its call was cancelled, or took too long, and it goes on all the same: after the
   * server's grace it is killed (default), or it is never killed ('never') and works on until the function ends.
   */
  readonly kill?: 'after-grace' | 'never'
}

/** The name of the property that holds them: a module can also set it without importing farpool. */
const KEY = 'farpool'

/**
 * Says how calls of a function are to be treated: `export const render = configure(async (page) => …, { retries: 2 })`.
 * Returns the function. What is wrong with the options is said when the server starts.
 */
export function configure<F extends (...args: never[]) => unknown>(fn: F, options: FunctionOptions): F {
  return Object.assign(fn, { [KEY]: options })
}

/** The options of a function, complete. Throws an Error that says which of them cannot be right. */
export function optionsOf(fn: object): { retries: number; runTimeoutMs: number; neverKilled: boolean } {
  const given: unknown = Object.hasOwn(fn, KEY) ? (fn as { [KEY]: unknown })[KEY] : {}
  if (typeof given !== 'object' || given === null)
    throw new Error(`its options are ${String(given)}; they must be an object`)
  const { retries = 0, runTimeout = 0, kill = 'after-grace', ...others } = given as Record<string, unknown>
  const [other] = Object.keys(others)
  if (other !== undefined) throw new Error(`it has an option ${other}; there are retries, runTimeout and kill`)
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
