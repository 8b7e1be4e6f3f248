import { basename } from 'node:path'
import { Failure } from '../wire/failure.js'
import { truncateUtf8 } from '../wire/truncate.js'
import type { FunctionInfo } from './process/worker-handle.js'

/** The functions that can be called, as the workers have loaded them. */
export class FunctionTable {
  /** A plain map, because every call looks its function up. Missing names: `unknown`. */
  readonly byName: ReadonlyMap<string, FunctionInfo>

  constructor(functions: readonly FunctionInfo[]) {
    this.byName = new Map(functions.map((info) => [info.name, info]))
  }

  /** Sorted by name, as callers see them: of a module only the file name, because its place is not their business. */
  get all(): FunctionInfo[] {
    return [...this.byName.values()]
      .map((info) => ({ ...info, module: basename(info.module) }))
      .sort((a, b) => (a.name < b.name ? -1 : 1))
  }

  /** The failure of a call of a name that is not here: FUNCTION_NOT_FOUND, with the nearest names. */
  unknown(name: string): Failure {
    const near = this.#nearest(name)
    const hint = near.length > 0 ? `did you mean ${near.join(' or ')}?` : `registered: ${this.#firstNames()}`
    return new Failure(
      'FUNCTION_NOT_FOUND',
      `no function ${JSON.stringify(truncateUtf8(name, 200))} is registered; ${hint}`,
      { metadata: { function: name.slice(0, 200), ...(near.length > 0 && { nearest: near.join(',') }) } },
    )
  }

  #nearest(name: string): string[] {
    if (name === '' || name.length > 100) return []
    const limit = Math.max(1, Math.floor(name.length / 3))
    return [...this.byName.keys()]
      .map((candidate) => ({ candidate, distance: editDistance(name.toLowerCase(), candidate.toLowerCase()) }))
      .filter(({ distance }) => distance <= limit)
      .sort((a, b) => a.distance - b.distance)
      .slice(0, 3)
      .map(({ candidate }) => candidate)
  }

  #firstNames(): string {
    const names = this.all.map(({ name }) => name)
    return names.slice(0, 10).join(', ') + (names.length > 10 ? `, and ${names.length - 10} more` : '')
  }
}

/** How many characters must be added, removed, replaced or swapped with their neighbour (optimal string alignment). */
function editDistance(a: string, b: string): number {
  let before: number[] = []
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const replaced = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      const swapped = a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1] ? (before[j - 2] ?? i) + 1 : replaced
      next[j] = Math.min(replaced, swapped, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1)
    }
    before = row
    row = next
  }
  return row[b.length] ?? 0
}
