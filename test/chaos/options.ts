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
  /** The clients use local pools, so there is no server to harm. */
  readonly local: boolean
  readonly out: string | undefined
  readonly keep: boolean
  readonly soak: number
  readonly deaths: number
  readonly rolling: number
  readonly command: string
}

const ROWS = {
  seed: [1, 'seed of all random choices'],
  tasks: [100_000, 'end after this many tasks'],
  seconds: [60, 'end after this many seconds; with --tasks, the default is one second per 200 tasks'],
  clients: [3, 'client processes'],
  lanes: [6, 'steps of each client at a time on the shared pool; one more lane uses owned pools'],
  processes: [3, 'workers of the shared pool'],
  settle: [60, 'seconds for the last calls to end after the last fault'],
  'kill-every': [400, 'ms between kills of a worker; 0: never, also for all options below'],
  'stop-every': [1_500, 'ms between stops (SIGSTOP) of a worker'],
  'cut-every': [
    4_000,
    "ms between cuts of one client's connections; with --partition-every, between resets of all connections",
  ],
  'partition-every': [
    0,
    'ms between partitions of the server from its clients; needs test/network/run.sh npm run chaos',
  ],
  'stall-every': [5_000, "ms between stalls of one client's connections"],
  'client-kill-every': [8_000, 'ms between kills of a client'],
  'restart-every': [15_000, 'ms between restarts of the server (SIGTERM)'],
  'server-kill-every': [20_000, 'ms between kills of the server'],
  'freeze-every': [7_000, 'ms between stops (SIGSTOP) of the server'],
  soak: [0, 'another scenario: this many seconds at half of the measured capacity, without faults by default'],
  deaths: [0, 'another scenario: this many kills of a server whose workers are in endless loops'],
  rolling: [0, 'another scenario: this many restarts of two servers in turn; the clients know both'],
} as const
/** The slowest machine that is supported. It bounds the time of a run with --tasks. */
const TASKS_PER_SECOND = 200
const OF_SERVERS = ['cut-every', 'partition-every', 'stall-every', 'restart-every', 'server-kill-every', 'freeze-every']
const FAULTS = Object.keys(ROWS).filter((name) => name.endsWith('-every'))

export const HELP = `npm run chaos -- [options]

Clients make calls of all kinds while workers, clients, connections and the server itself fail. Then every call and
every execution is checked. The exit code is 1 if a rule is broken.

${Object.entries(ROWS)
  .map(([name, [value, help]]) => `  --${name.padEnd(18)} ${help} (default: ${value})`)
  .join('\n')}
  --local              the clients use local pools; without faults of servers and connections
  --calm               only the faults that further options ask for
  --plant NAME         plant a bug in a copy of the build, to test this harness; plant.ts lists the bugs
  --build FOLDER       the build to test (default: dist)
  --out FILE           write the report to this file, as JSON
  --keep               keep the histories also if no rule is broken`

/** Parses the command line. Throws for an unknown option or a wrong value. */
export function parseOptions(args: readonly string[]): Options | 'help' {
  const rows = Object.fromEntries(Object.keys(ROWS).map((name) => [name, { type: 'string' as const }]))
  const text = { type: 'string' as const }
  const flag = { type: 'boolean' as const }
  const { values } = parseArgs({
    args: [...args],
    options: { ...rows, calm: flag, keep: flag, local: flag, help: flag, plant: text, build: text, out: text },
  })
  if (values.help) return 'help'
  const given: Record<string, string | boolean | undefined> = values
  const isCalm = values.calm || given['soak'] !== undefined
  const why = whyNoHosts()
  if (Number(given['partition-every'] ?? 0) !== 0 && why !== '') {
    throw new Error(
      `--partition-every is ${given['partition-every']}, but this process cannot make a partition: ${why}`,
    )
  }
  const number = (name: keyof typeof ROWS): number => {
    const text = given[name]
    if (values.local && OF_SERVERS.includes(name)) return 0
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
        : number('tasks') / TASKS_PER_SECOND,
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
    build: values.build ?? fileURLToPath(new URL('../../../../../dist', import.meta.url)),
    plant: values.plant,
    local: values.local ?? false,
    out: values.out,
    keep: values.keep ?? false,
    soak: number('soak'),
    deaths: number('deaths'),
    rolling: number('rolling'),
    command: `npm run chaos -- ${args.join(' ')}${given['seed'] === undefined ? ` --seed ${ROWS.seed[0]}` : ''}`,
  }
}
