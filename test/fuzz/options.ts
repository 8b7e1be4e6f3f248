import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { TARGETS, type TargetName } from './target.js'

export interface Options {
  readonly seed: number
  /** The numbers of the cases of each target: from `from` up to, but not including, `to`. */
  readonly cases: ReadonlyMap<TargetName, { readonly from: number; readonly to: number }>
  readonly build: string
  readonly out: string | undefined
}

const COUNT = 100_000
const SEED = 1

/** Each target's part of the cases. Targets that start processes or connections get fewer. */
const SHARES: Readonly<Record<TargetName, number>> = { requests: 0.947, http2: 0.03, client: 0.02, worker: 0.003 }

export const HELP = `npm run fuzz -- [options]

Sends mutated messages and frames to real servers, workers and clients. The targets:

  requests    requests to a server, while an innocent client calls it too
  http2       HTTP/2 frames to a server, while an innocent client calls it too
  worker      frames from a worker to its server, and from a server to its worker
  client      replies of a server to a client

Seed, target and number define a case. The exit code is 1 if a rule is broken.

  --count N            cases of all targets together (default: ${COUNT})
  --seed N             seed of all cases (default: ${SEED})
  --target NAME        only these targets, with commas between them (default: all)
  --only N, N-M        only the case with this number, or those from N to M; needs one --target
  --build FOLDER       the build to test (default: dist)
  --out FILE           write the report to this file, as JSON`

/** Parses the command line. Throws for an unknown option or a wrong value. */
export function parseOptions(args: readonly string[]): Options | 'help' {
  const text = { type: 'string' as const }
  const { values } = parseArgs({
    args: [...args],
    options: { count: text, seed: text, target: text, only: text, build: text, out: text, help: { type: 'boolean' } },
  })
  if (values.help) return 'help'
  const targets = values.target === undefined ? TARGETS : values.target.split(',').map(targetOf)
  const target = targets.length === 1 ? targets[0] : undefined
  const count = numberOf('count', values.count ?? String(COUNT), 1)
  if (values.only !== undefined && target === undefined)
    throw new Error(`--only is ${values.only}; give the --target whose case that is, one of ${TARGETS.join(', ')}`)
  if (values.only !== undefined && values.count !== undefined)
    throw new Error(`--only is ${values.only} and --count is ${values.count}; give one of the two`)
  return {
    seed: numberOf('seed', values.seed ?? String(SEED), 0),
    cases: target ? new Map([[target, rangeOf(values.only, count)]]) : shared(targets, count),
    build: buildOf(values.build ?? fileURLToPath(new URL('../../../../../dist', import.meta.url))),
    out: values.out,
  }
}

function buildOf(folder: string): string {
  const path = resolve(folder)
  if (existsSync(join(path, 'cli/main.js'))) return path
  throw new Error(`--build is ${folder}; it must be a folder with a build of farpool, as npm run build makes`)
}

function targetOf(text: string): TargetName {
  const target = TARGETS.find((name) => name === text)
  if (!target) throw new Error(`--target is ${text}; it must be one of ${TARGETS.join(', ')}`)
  return target
}

function numberOf(name: string, text: string, least: number): number {
  const value = Number(text)
  if (!/^\d+$/.test(text) || !(value >= least && value < 2 ** 32))
    throw new Error(`--${name} is ${text}; it must be an integer from ${least} to ${2 ** 32 - 1}`)
  return value
}

function rangeOf(only: string | undefined, count: number): { from: number; to: number } {
  if (only === undefined) return { from: 0, to: count }
  const [from, to = from, ...more] = only.split('-')
  if (!from || !to || more.length > 0) throw new Error(`--only is ${only}; it must be a number or two, as 17 or 17-40`)
  const range = { from: numberOf('only', from, 0), to: numberOf('only', to, 0) + 1 }
  if (range.to <= range.from) throw new Error(`--only is ${only}; the second number must not be below the first`)
  return range
}

function shared(targets: readonly TargetName[], count: number): Options['cases'] {
  const all = targets.reduce((sum, target) => sum + SHARES[target], 0)
  const cases = (target: TargetName) => Math.max(1, Math.round((count * SHARES[target]) / all))
  return new Map(targets.map((target) => [target, { from: 0, to: cases(target) }]))
}
