import type { Summary } from './figures.js'

export interface NeighbourReport {
  readonly command: string
  readonly kinds: readonly Summary[]
  readonly complaints: readonly string[]
}

const HEAD = [
  'kind',
  'p50',
  'p99',
  'worst',
  'calm p99',
  'worst',
  '× calm',
  'tiny',
  '× control',
  'hostile CPU',
  'server CPU',
  'workers CPU',
  'failed',
  'done by the attack',
]

/** The table: the innocent client's milliseconds beside the hostile one, then without it, then ratios of p99s, then CPUs. */
export function table({ kinds, complaints }: NeighbourReport): string {
  const rows = [HEAD, ...kinds.map(rowOf)]
  const widths = HEAD.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  const lines = rows.map((row) =>
    row
      .map((cell, column) =>
        (column % (HEAD.length - 1) === 0 ? cell.padEnd : cell.padStart).call(cell, widths[column] ?? 0),
      )
      .join('  ')
      .trimEnd(),
  )
  return [...lines, ...complaints.map((complaint) => `! ${complaint}`)].join('\n')
}

function rowOf(summary: Summary): string[] {
  const { kind, calm, hostile, ratio, tinyRatio, controlRatio, done, failures } = summary
  return [
    kind,
    ...[hostile.p50, hostile.p99, hostile.worst, calm.p99, calm.worst].map(shown),
    ...[ratio, tinyRatio, controlRatio, summary.hostileCpu, summary.serverCpu, summary.workersCpu].map(shown),
    counts(failures) || '0',
    counts(done),
  ]
}

const shown = (number: number): string => (Number.isNaN(number) ? '–' : number.toFixed(number < 100 ? 1 : 0))

const counts = (of: Readonly<Record<string, number>>): string =>
  Object.entries(of)
    .map(([name, count]) => `${count.toLocaleString('en')} ${name}`)
    .join(', ')
