import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { BUGS } from '../chaos/plant.js'
import { KINDS } from './attacks/attacks.js'

export interface Options {
  readonly kinds: readonly string[]
  readonly seconds: number
  readonly pairs: number
  readonly processes: number
  /** The most workers that one client may occupy; 0: all. */
  readonly maxRunning: number
  readonly rate: number
  /** The hostile client runs on the server's machine, with an equal right to the CPUs. */
  readonly here: boolean
  /** Checks only that every call gets the right result during the attacks. */
  readonly quick: boolean
  readonly build: string
  readonly plant: string | undefined
  readonly out: string | undefined
  readonly profile: string | undefined
}

const ROWS = {
  seconds: { value: 2, least: 0.1, most: 60, help: 'length of each measurement, in seconds' },
  pairs: { value: 3, least: 1, most: 100, help: 'number of measurements, each without and with the hostile client' },
  processes: { value: 2, least: 1, most: 64, help: 'workers of the shared pool' },
  'max-running': { value: 0, least: 0, most: 64, help: 'most workers that one client may occupy; 0: all' },
  rate: { value: 100, least: 1, most: 1_000, help: 'calls of the innocent client per second' },
} as const
type Row = keyof typeof ROWS

const QUICK: Partial<Record<Row, number>> = { seconds: 0.25, pairs: 1 }

export const HELP = `npm run neighbour -- [options]

Measures how much a hostile client slows an innocent one. The innocent client calls at a steady rate: alone, beside the
hostile client, and beside a control process that burns as much CPU as the attack cost and does not call the server.
The exit code is 1 if a call does not get the right result.

${Object.entries(ROWS)
  .map(([name, { value, help }]) => `  --${name.padEnd(18)} ${help} (default: ${value})`)
  .join('\n')}
  --here               let the hostile client compete for the CPUs, as on the server's machine; by default it gets only
                       CPU time that no other process wants, as on another machine
  --kinds A,B          run only these kinds of attack (default: all)
  --quick              check only that every call gets the right result, for a quarter of a second of each kind
  --plant NAME         plant a bug in a copy of the build, to test this harness; made for no-turns
  --build FOLDER       the build to test (default: dist)
  --out FILE           write the figures to this file, as JSON
  --profile FOLDER     write a CPU profile of the server to this folder

Kinds of attack:
${Object.entries(KINDS)
  .map(([name, { what }]) => `  ${name.padEnd(18)} ${what}`)
  .join('\n')}`

/** Parses the command line. Throws for an unknown option or a wrong value. */
export function parseOptions(args: readonly string[]): Options | 'help' {
  const text = { type: 'string' as const }
  const flag = { type: 'boolean' as const }
  const rows = Object.fromEntries(Object.keys(ROWS).map((name) => [name, text]))
  const { values } = parseArgs({
    args: [...args],
    options: {
      ...rows,
      kinds: text,
      plant: text,
      build: text,
      out: text,
      profile: text,
      quick: flag,
      here: flag,
      help: flag,
    },
  })
  if (values.help) return 'help'
  const given: Record<string, string | boolean | undefined> = values
  const quick = values.quick ?? false
  const number = (name: Row): number => {
    const { value, least, most } = ROWS[name]
    const text = given[name]
    if (text === undefined) return (quick ? QUICK[name] : undefined) ?? value
    const number = text === '' ? Number.NaN : Number(text)
    const isWhole = name === 'seconds' || Number.isInteger(number)
    if (isWhole && number >= least && number <= most) return number
    const what = name === 'seconds' ? 'a number' : 'a whole number'
    throw new Error(`--${name} is ${JSON.stringify(text)}; it must be ${what} from ${least} to ${most}`)
  }
  return {
    kinds: kindsOf(values.kinds),
    seconds: number('seconds'),
    pairs: number('pairs'),
    processes: number('processes'),
    maxRunning: number('max-running'),
    rate: number('rate'),
    here: values.here ?? false,
    quick,
    build: values.build ?? fileURLToPath(new URL('../../../../../dist', import.meta.url)),
    plant: bugOf(values.plant),
    out: values.out,
    profile: values.profile,
  }
}

function kindsOf(text: string | undefined): readonly string[] {
  const all = Object.keys(KINDS)
  if (text === undefined) return all
  const kinds = text.split(',').map((kind) => kind.trim())
  const wrong = kinds.find((kind) => !all.includes(kind))
  if (wrong === undefined) return kinds
  throw new Error(`--kinds has ${JSON.stringify(wrong)}; it must name some of ${all.join(', ')}`)
}

function bugOf(name: string | undefined): string | undefined {
  if (name === undefined || name in BUGS) return name
  throw new Error(`--plant is ${JSON.stringify(name)}; it must be one of ${Object.keys(BUGS).join(', ')}`)
}
