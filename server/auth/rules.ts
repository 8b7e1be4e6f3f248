import type { FunctionTable } from '../../pool/function-table.js'
import { Failure } from '../../wire/failure.js'
import { truncateUtf8 } from '../../wire/truncate.js'

/** What an identity may do. What is undefined is limited only by the options of the server. */
export interface Rules {
  /** The functions that it may call; `*` stands for any text. Default: all but the initializer of the shared pool. */
  readonly functions?: readonly string[] | undefined
  /** Owned pools that it may have open at once, and the processes of all of them together. */
  readonly pools?: number | undefined
  readonly processes?: number | undefined
  /** Tasks that may wait, in all pools together. */
  readonly queued?: number | undefined
  readonly connections?: number | undefined
  /** Whether it may close and terminate the shared pools. */
  readonly terminate?: boolean | undefined
}

export const NO_RULES: Rules = {}

/** The rules of a caller that cannot be identified. */
export const NOTHING: Rules = { functions: [], pools: 0, terminate: false }

/**
 * Whether a function of a pool may be called. The initializer of a shared pool prepares a worker, and the operator has
 * chosen its arguments. So it may be called only where the rules have its own name, and no wildcard is enough.
 */
export const mayCall = (name: string, { functions }: Rules, { initializer }: FunctionTable): boolean =>
  functions === undefined
    ? name !== initializer
    : functions.includes(name) || (name !== initializer && functions.some((pattern) => matches(pattern, name)))

/**
 * Whether a function may initialize an owned pool. Without a list of functions this may be any, also the initializer of the
 * shared pool: it prepares only workers of its caller.
 */
export const mayInitialize = (name: string, rules: Rules, table: FunctionTable): boolean =>
  rules.functions === undefined || mayCall(name, rules, table)

/** The functions that may be called, for lists and for hints. */
export const callable = (table: FunctionTable, rules: Rules): FunctionTable =>
  table.only((name) => mayCall(name, rules, table))

/** Does not tell whether there is such a function. */
export const notAllowed = (name: string): Failure =>
  new Failure('PERMISSION_DENIED', `the function ${JSON.stringify(truncateUtf8(name, 200))} may not be called`, {
    metadata: { function: name.slice(0, 200) },
  })

/** Not a RegExp, which could take very long for the name that a hostile client chooses. */
function matches(pattern: string, name: string): boolean {
  const [first = '', ...rest] = pattern.split('*')
  const last = rest.pop()
  if (last === undefined) return name === pattern
  if (!name.startsWith(first)) return false
  let at = first.length
  for (const part of rest) {
    const found = name.indexOf(part, at)
    if (found < 0) return false
    at = found + part.length
  }
  return name.length - last.length >= at && name.endsWith(last)
}
