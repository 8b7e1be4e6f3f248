import type { ChaosReport } from './chaos.js'
import type { DeathsReport } from './deaths.js'
import type { RollingReport } from './rolling.js'

const list = (counts: Readonly<Record<string, number>>): string =>
  Object.entries(counts)
    .sort(([, a], [, b]) => b - a)
    .map(([name, count]) => `${name} ${count}`)
    .join(', ') || 'none'

const ms = ({ count, median, worst }: ChaosReport['replacementMs']): string =>
  count === 0 ? 'none' : `median ${median.toFixed(0)} ms, worst ${worst.toFixed(0)} ms, of ${count}`

const mib = (kib: number): string => (kib / 1024).toFixed(0)

/** The report as text. */
export function table(report: ChaosReport): string {
  const { serverMemory, violations } = report
  const count = (rule: string) => violations.find((violation) => violation.rule === rule)?.count ?? 0
  const rows: [string, string][] = [
    ['seed, time', `${report.seed}, ${report.seconds.toFixed(0)} s`],
    ['tasks, calls', `${report.tasks}, ${report.calls}`],
    ['executions', String(report.executions)],
    ['faults', list(report.faults)],
    ['outcomes', list(report.outcomes)],
    ['killed clients', `${report.unknown} of their tasks were under way`],
    ['lost', String(count('lost'))],
    ['duplicated', String(count('duplicated'))],
    ['kill to next result', ms(report.replacementMs)],
    ['start of a worker', ms(report.bareWorkerMs)],
    ...(report.capacity === undefined
      ? []
      : ([['capacity', `${report.capacity.toFixed(0)} tasks/s, half of it used`]] as [string, string][])),
    [
      'server memory',
      `${mib(serverMemory.fromKib)} to ${mib(serverMemory.toKib)} MiB, ${(serverMemory.kibPerMinute / 1024).toFixed(2)} MiB per minute in the second half`,
    ],
    ['violations', list(Object.fromEntries(violations.map(({ rule, count }) => [rule, count])))],
  ]
  return [...lines(rows), ...details(report)].join('\n')
}

export function deathsTable(report: DeathsReport): string {
  const { deaths, outcomes, goneMs, processesLeft, filesLeft } = report
  return lines([
    ['deaths', String(deaths)],
    ['outcomes of calls', list(outcomes)],
    ['all gone after', `median ${goneMs.median.toFixed(0)} ms, worst ${goneMs.worst.toFixed(0)} ms`],
    ['processes left', [processesLeft.length, ...processesLeft.slice(0, 5)].join('\n  ')],
    ['files left', [filesLeft.length, ...filesLeft.slice(0, 5)].join('\n  ')],
  ]).join('\n')
}

export function rollingTable(report: RollingReport): string {
  const rows = lines([
    ['restarts', String(report.restarts)],
    ['tasks, calls', `${report.tasks}, ${report.calls}`],
    ['outcomes', list(report.outcomes)],
    ['without a result', String(report.failed)],
    ['violations', list(Object.fromEntries(report.violations.map(({ rule, count }) => [rule, count])))],
  ])
  return [...rows, ...details(report)].join('\n')
}

const lines = (rows: readonly [string, string][]): string[] =>
  rows.map(([name, value]) => `${name.padEnd(20)} ${value}`)

const details = ({ violations, complaints }: Pick<ChaosReport, 'violations' | 'complaints'>): string[] => [
  ...violations.flatMap(({ rule, examples }) => examples.map((example) => `  ${rule}: ${example}`)),
  ...complaints.map((complaint) => `  complaint: ${complaint}`),
]
