import type { Curve } from './growth.js'
import type { Figures } from './peers/peer.js'
import { peersOf, type Row, type Side, type Target } from './rows.js'
import { median } from './run.js'

/** The result of one row: a median for each peer and figure. */
export interface Result {
  readonly row: Row
  /** By peer. A peer that cannot run on this machine has no figures. */
  readonly medians: ReadonlyMap<string, Figures>
}

export interface Report {
  readonly date: string
  readonly machine: string
  readonly versions: Readonly<Record<string, string>>
  readonly turns: number
  readonly results: readonly Result[]
  readonly growth: readonly Curve[]
}

export const resultOf = (row: Row, measured: ReadonlyMap<string, readonly Figures[]>): Result => ({
  row,
  medians: new Map(
    [...measured].map(([peer, turns]) => {
      const names = Object.keys(turns[0] ?? {})
      const figures = Object.fromEntries(names.map((name) => [name, median(turns.map((turn) => turn[name] ?? 0))]))
      return [peer, figures]
    }),
  ),
})

/** farpool's figure divided by the peer's; undefined if the peer is missing. */
export function ratioOf({ medians }: Result, { side, figure, peer, peerFigure = figure }: Target): number | undefined {
  const ours = medians.get(`farpool ${side}`)?.[figure]
  const theirs = peer === '' ? 1 : medians.get(peer)?.[peerFigure]
  if (ours === undefined || theirs === undefined) return undefined
  return ours / theirs
}

export function isMet({ atLeast = 0, atMost = Number.POSITIVE_INFINITY }: Target, ratio: number): boolean {
  return ratio >= atLeast && ratio <= atMost
}

const CODES: readonly (readonly [number, string])[] = [
  [1e6, 'M'],
  [1e4, 'k'],
]

/** A figure in short form: 12.3M, 45.6k, 789, 0.12. */
export function short(value: number): string {
  for (const [scale, letter] of CODES) {
    if (value >= scale) return `${Number((value / (letter === 'k' ? 1e3 : scale)).toPrecision(3))}${letter}`
  }
  return value >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3)))
}

/** The Markdown of each section. A section without figures is missing. */
export function sections(report: Report): Map<string, string> {
  const all: Record<string, string[]> = {
    local: besides(report, 'local'),
    remote: besides(report, 'remote'),
    cpu: listed(report, ({ cpu }) => cpu === true, CPU_FIGURES),
    cold: listed(report, ({ section }) => section === 'cold'),
    scale: [...listed(report, ({ section }) => section === 'scale'), ...report.results.flatMap(capacityOf)],
    growth: report.growth.map(
      ({ title, unit, points }) =>
        `- ${title} (${unit}): ${points.map(({ label, y }) => `${label} ${short(y)}`).join(', ')}`,
    ),
  }
  const versions = Object.entries(report.versions).map(([name, version]) => `${name} ${version}`)
  const head = `${report.date}, ${report.machine}; medians of ${report.turns} turns; ${versions.join(', ')}.`
  const filled = Object.entries(all).filter(([, lines]) => lines.length > 0)
  return new Map([['machine', head], ...filled.map(([id, lines]): [string, string] => [id, lines.join('\n')])])
}

const CPU_FIGURES = {
  'cpu caller': 'µs per call',
  'cpu server': 'µs per call',
  'cpu workers': 'µs per call',
  'cpu all': 'µs per call',
}

const NOT_HERE = 'cannot run here'

/** One side of farpool beside its peers. */
function besides({ results }: Report, side: Side): string[] {
  const lines = results.flatMap((result) => (result.row[side] ? linesOf(result, side) : []))
  if (lines.length === 0) return []
  return [
    `| row | farpool ${side} | peer | peer's figure | ratio | target | |`,
    '|---|--:|---|--:|--:|--:|---|',
    ...lines,
  ]
}

function linesOf(result: Result, side: Side): string[] {
  const { row, medians } = result
  return Object.entries(row.figures).flatMap(([figure, unit]) => {
    const value = medians.get(`farpool ${side}`)?.[figure]
    if (value === undefined) return []
    const name = Object.keys(row.figures).length > 1 ? `${row.title}, ${figure}` : row.title
    const targets = row.targets.filter(
      (target) => target.side === side && target.figure === figure && (target.peer === '' || medians.has(target.peer)),
    )
    const untargeted = (row[side] ?? []).filter((peer) => !targets.some((target) => target.peer === peer))
    const compared = [
      ...targets,
      ...untargeted.filter((peer) => isMeasured(result, peer, figure)).map((peer) => ({ side, figure, peer })),
    ]
    const own = `| ${name} (${unit}) | ${short(value)} |`
    if (compared.length === 0) return [`${own} | | | | |`]
    return compared.map((target, at) => `${at === 0 ? own : '| | |'} ${cellsOf(result, target)} |`)
  })
}

/** A peer that was not among those of this run has no line; one that cannot run here has. */
const isMeasured = ({ medians }: Result, peer: string, figure: string): boolean => {
  const figures = medians.get(peer)
  return figures !== undefined && (figures[figure] !== undefined || Object.keys(figures).length === 0)
}

function cellsOf(result: Result, target: Target): string {
  const ratio = ratioOf(result, target)
  const theirs = result.medians.get(target.peer)?.[target.peerFigure ?? target.figure]
  const bound = targetOf(target)
  return [
    target.peer || 'itself',
    theirs !== undefined ? short(theirs) : target.peer ? NOT_HERE : '',
    ratio === undefined ? '' : `${short(ratio)} ×`,
    bound,
    ratio === undefined || bound === '' ? '' : isMet(target, ratio) ? 'met' : '**missed**',
  ].join(' | ')
}

/** How many workers one core of the server feeds, by its CPU time per task with the largest number of workers. */
function capacityOf({ row, medians }: Result): string[] {
  const [peer, figures] = [...medians].at(-1) ?? []
  const us = figures?.['cpu server']
  if (row.taskMs === undefined || us === undefined) return []
  const feeds = Math.floor((row.taskMs * 1000) / us)
  return [`- ${row.title}: ${short(us)} µs of the server for each (${peer}), so one core of it feeds ${feeds} workers.`]
}

/** A table for each row: a line for each peer, a column for each figure. */
function listed(
  { results }: Report,
  which: (row: Row) => boolean,
  figures?: Readonly<Record<string, string>>,
): string[] {
  return results
    .filter(({ row }) => which(row))
    .flatMap(({ row, medians }) => {
      const columns = Object.entries(figures ?? row.figures)
      return [
        `| ${row.title} | ${columns.map(([figure, unit]) => `${figure.replace('cpu ', '')} (${unit})`).join(' | ')} |`,
        `|---|${columns.map(() => '--:').join('|')}|`,
        ...peersOf(row).flatMap((peer) => {
          const own = medians.get(peer)
          if (!own) return []
          const cells = columns.map(([figure]) => (own[figure] === undefined ? NOT_HERE : short(own[figure])))
          return [`| ${peer} | ${cells.join(' | ')} |`]
        }),
        '',
      ]
    })
}

const targetOf = ({ atLeast, atMost }: Target): string =>
  atLeast !== undefined ? `≥ ${atLeast}` : atMost !== undefined ? `≤ ${atMost}` : ''

/** All figures, as JSON. */
export const json = (report: Report): string =>
  `${JSON.stringify(
    {
      ...report,
      results: report.results.map((result) => ({
        id: result.row.id,
        title: result.row.title,
        units: result.row.figures,
        medians: Object.fromEntries(result.medians),
        ratios: result.row.targets.map((target) => ({ ...target, ratio: ratioOf(result, target) })),
      })),
    },
    null,
    2,
  )}\n`
