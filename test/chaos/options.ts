import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import type { Pace } from './nemesis.js'
import { whyNoHosts } from './network.js'

export interface Options {
  readonly seed: number
  readonly tasks: number
  readonly seconds: number
  readonly clients: number
  readonly lanes: number
  readonly processes: number
  readonly settle: number
  readonly pace: Pace
  readonly build: string
  readonly plant: string | undefined
  readonly out: string | undefined
  readonly keep: boolean
  readonly soak: number
  readonly deaths: number
  readonly rolling: number
  readonly command: string
}

const ROWS = {
  seed: [1, 'the plan of all clients and of the nemesis'],
  tasks: [100_000, 'ends when the clients have asked for so many'],
  seconds: [60, 'or after so many seconds; with --tasks, one for every 200 of them'],
  clients: [3, 'client processes'],
  lanes: [6, 'what each of them does at a time, beside a pool of its own'],
  processes: [3, 'workers of the shared pool'],
  settle: [60, 'how many seconds calls may take to end when nothing is done to them any more'],
  'kill-every': [400, 'ms between kills of a worker; 0 for never, as with all of these'],
  'stop-every': [1_500, 'ms between stops (SIGSTOP) of a worker'],
  'cut-every': [4_000, "ms between cuts of a client's connections; of resets of all, in a network of its own"],
  'partition-every': [
    0,
    "ms between pulls of the server's cable; in a network of its own: test/network/run.sh npm run chaos",
  ],
  'stall-every': [5_000, "ms between halts of a client's connections"],
  'client-kill-every': [8_000, 'ms between kills of a client'],
  'restart-every': [15_000, 'ms between restarts of the server (SIGTERM)'],
  'server-kill-every': [20_000, 'ms between kills of the server'],
  'freeze-every': [7_000, 'ms between stops (SIGSTOP) of the server'],
  soak: [0, 'instead: so many seconds at half of the capacity, which is measured first; no faults unless asked for'],
  deaths: [0, 'instead: so many deaths of a server whose workers are in endless loops'],
  rolling: [0, 'instead: so many restarts of two servers in turn, behind clients that know both'],
} as const
/** Fewer there are on no machine that is worth it: a bound for a run that is told how many it has to do. */
const TASKS_A_SECOND = 200
const FAULTS = Object.keys(ROWS).filter((name) => name.endsWith('-every'))

export const HELP = `npm run chaos -- [options]

Clients drive mixed work through a server while workers, clients, connections and the server itself die. Then every
call and every execution is checked. Exit code 1 where a rule is broken.

${Object.entries(ROWS)
  .map(([name, [value, help]]) => `  --${name.padEnd(18)} ${help} (${value})`)
  .join('\n')}
  --calm               no faults but those that are asked for
  --plant NAME         plants a bug in a copy of the build: plant.ts lists them
  --build FOLDER       the build to test (dist)
  --out FILE           writes the report there, as JSON
  --keep               keeps the histories; they are kept also where a rule is broken`

/** The options of a command line. Throws where it has any other. */
export function parseOptions(args: readonly string[]): Options | 'help' {
  const rows = Object.fromEntries(Object.keys(ROWS).map((name) => [name, { type: 'string' as const }]))
  const text = { type: 'string' as const }
  const flag = { type: 'boolean' as const }
  const { values } = parseArgs({
    args: [...args],
    options: { ...rows, calm: flag, keep: flag, help: flag, plant: text, build: text, out: text },
  })
  if (values.help) return 'help'
  const given: Record<string, string | boolean | undefined> = values
  const isCalm = values.calm || given['soak'] !== undefined
  const why = whyNoHosts()
  if (Number(given['partition-every'] ?? 0) !== 0 && why !== '') {
    throw new Error(`--partition-every is ${given['partition-every']}, but here no cable can be pulled: ${why}`)
  }
  const number = (name: keyof typeof ROWS): number => {
    const text = given[name]
    if (text === undefined) return isCalm && FAULTS.includes(name) ? 0 : ROWS[name][0]
    const value = Number(text)
    if (!Number.isFinite(value) || value < 0) throw new Error(`--${name} is ${text}; it must be a number, 0 or more`)
    return value
  }
  return {
    seed: number('seed'),
    tasks: number('tasks'),
    seconds:
      given['tasks'] === undefined || given['seconds'] !== undefined
        ? number('seconds')
        : number('tasks') / TASKS_A_SECOND,
    clients: number('clients'),
    lanes: number('lanes'),
    processes: number('processes'),
    settle: number('settle'),
    pace: {
      kill: number('kill-every'),
      stop: number('stop-every'),
      cut: number('cut-every'),
      partition: number('partition-every'),
      stall: number('stall-every'),
      clientKill: number('client-kill-every'),
      restart: number('restart-every'),
      serverKill: number('server-kill-every'),
      freeze: number('freeze-every'),
    },
    build: values.build ?? fileURLToPath(new URL('../../../dist', import.meta.url)),
    plant: values.plant,
    out: values.out,
    keep: values.keep ?? false,
    soak: number('soak'),
    deaths: number('deaths'),
    rolling: number('rolling'),
    command: `npm run chaos -- ${args.join(' ')}${given['seed'] === undefined ? ` --seed ${ROWS.seed[0]}` : ''}`,
  }
}
