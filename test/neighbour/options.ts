import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { BUGS } from '../chaos/plant.js'
import { KINDS } from './attacks/attacks.js'

export interface Options {
  readonly kinds: readonly string[]
  readonly seconds: number
  readonly pairs: number
  readonly processes: number
  /** How many workers a client may have at once; 0 for all. */
  readonly maxRunning: number
  readonly rate: number
  /** The hostile client is on the server's own machine, and has its part of the CPUs. */
  readonly here: boolean
  /** Only whether every call is answered rightly while the attacks last. */
  readonly quick: boolean
  readonly build: string
  readonly plant: string | undefined
  readonly out: string | undefined
  readonly profile: string | undefined
}

const ROWS = {
  seconds: { value: 2, least: 0.1, most: 60, help: 'of each measurement' },
  pairs: { value: 3, least: 1, most: 100, help: 'measurements without and with the hostile client, in turns' },
  processes: { value: 2, least: 1, most: 64, help: 'workers of the pool' },
  'max-running': { value: 0, least: 0, most: 64, help: 'workers that one client may have; 0 for all' },
  rate: { value: 100, least: 1, most: 1_000, help: 'calls of the innocent client in a second' },
} as const
type Row = keyof typeof ROWS

const QUICK: Partial<Record<Row, number>> = { seconds: 0.25, pairs: 1 }

export const HELP = `npm run neighbour -- [options]

An innocent client calls at a steady pace, alone, beside a hostile one, and beside a process that burns as much CPU as
that made the server and its workers take, and touches no server. Exit code 1 where a call has
another outcome than its result.

${Object.entries(ROWS)
  .map(([name, { value, help }]) => `  --${name.padEnd(18)} ${help} (${value})`)
  .join('\n')}
  --here               the hostile client has its part of the CPUs, as if it were on the server's machine; without this
                       it has what nobody else wants, as if it were on another
  --kinds A,B          only these kinds of hostility
  --quick              only the hostile client, a quarter of a second of each kind: whether every call is answered rightly
  --plant NAME         plants a bug in a copy of the build; no-turns is for this
  --build FOLDER       the build to test (dist)
  --out FILE           writes the figures there, as JSON
  --profile FOLDER     has Node write a CPU profile of the server there

The kinds:
${Object.entries(KINDS)
  .map(([name, { what }]) => `  ${name.padEnd(18)} ${what}`)
  .join('\n')}`

/** The options of a command line. Throws where it has any other. */
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
  throw new Error(`--kinds has ${JSON.stringify(wrong)}; it must have of ${all.join(', ')}`)
}

function bugOf(name: string | undefined): string | undefined {
  if (name === undefined || name in BUGS) return name
  throw new Error(`--plant is ${JSON.stringify(name)}; it must be one of ${Object.keys(BUGS).join(', ')}`)
}
