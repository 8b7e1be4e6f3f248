import { basename } from 'node:path'
import { Failure } from '../wire/failure.js'
import { firstNames, nearest } from '../wire/nearest.js'
import { truncateUtf8 } from '../wire/truncate.js'
import type { FunctionInfo } from './process/worker-handle.js'

/** The functions of a pool, as its workers have loaded them. A shared pool and the pools made from it have one table. */
export class FunctionTable {
  /** A plain map, because every call looks its function up. Missing names: `unknown`. */
  byName: ReadonlyMap<string, FunctionInfo> = new Map()

  /**
   * @param initializer the function that prepares the workers of the shared pool, also in the pools made from it; undefined
   *   for none.
   */
  constructor(
    functions: readonly FunctionInfo[] = [],
    readonly initializer?: string,
  ) {
    this.replace(functions)
  }

  /** The modules have been loaded, or have changed. */
  replace(functions: readonly FunctionInfo[]): void {
    this.byName = new Map(functions.map((info) => [info.name, info]))
  }

  /** Sorted by name, as callers see them: of a module only the file name, because its place is not their business. */
  get all(): FunctionInfo[] {
    return [...this.byName.values()]
      .map((info) => ({ ...info, module: basename(info.module) }))
      .sort((a, b) => (a.name < b.name ? -1 : 1))
  }

  /** A table of those of them whose name is included. */
  only(isIncluded: (name: string) => boolean): FunctionTable {
    return new FunctionTable(
      [...this.byName.values()].filter(({ name }) => isIncluded(name)),
      this.initializer,
    )
  }

  /** The failure of a call of a name that is not here: FUNCTION_NOT_FOUND, with the nearest names. */
  unknown(name: string): Failure {
    const near = nearest(name, this.byName.keys())
    const hint =
      near.length > 0
        ? `did you mean ${near.join(' or ')}?`
        : `registered: ${firstNames(this.all.map((info) => info.name))}`
    return new Failure(
      'FUNCTION_NOT_FOUND',
      `no function ${JSON.stringify(truncateUtf8(name, 200))} is registered; ${hint}`,
      { metadata: { function: name.slice(0, 200), ...(near.length > 0 && { nearest: near.join(',') }) } },
    )
  }
}
