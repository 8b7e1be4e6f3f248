import type { Curve } from './growth.js'
import type { Figures } from './peers/peer.js'
import type { Row, Target } from './rows.js'
import { median } from './run.js'

/** The result of one row: a median for each peer and figure. */
export interface Result {
  readonly row: Row
  /** By peer. A peer that cannot run on this machine is missing. */
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
    [...measured].flatMap(([peer, turns]) => {
      const names = Object.keys(turns[0] ?? {})
      const figures = Object.fromEntries(names.map((name) => [name, median(turns.map((turn) => turn[name] ?? 0))]))
      return names.length === 0 ? [] : [[peer, figures]]
    }),
  ),
})

/** farpool's figure divided by the peer's; undefined if the peer is missing. */
export function ratioOf(
  { row, medians }: Result,
  { figure, peer, peerFigure = figure, added }: Target,
): number | undefined {
  const ours = medians.get(String(row.peers[0]))?.[figure]
  const theirs = peer === '' ? 1 : medians.get(peer)?.[peerFigure]
  if (ours === undefined || theirs === undefined) return undefined
  return (added ? ours - theirs : ours) / theirs
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

/** The Markdown table. */
export function table(report: Report): string {
  const lines = [
    "| row | farpool | peer | peer's figure | ratio | target | |",
    '|---|--:|---|--:|--:|--:|---|',
    ...report.results.flatMap(lineOf),
  ]
  const versions = Object.entries(report.versions).map(([name, version]) => `${name} ${version}`)
  const head = `${report.date}, ${report.machine}; medians of ${report.turns} turns; ${versions.join(', ')}.`
  const growth = report.growth.flatMap(({ title, unit, points }) => [
    `- ${title} (${unit}): ${points.map(({ label, y }) => `${label} ${short(y)}`).join(', ')}`,
  ])
  return [head, '', ...lines, '', ...growth, ''].join('\n')
}

function lineOf(result: Result): string[] {
  const { row, medians } = result
  const [first = '', ...others] = row.peers
  const ours = medians.get(first)
  const lines: string[] = []
  for (const figure of row.figures) {
    const value = ours?.[figure]
    if (value === undefined) continue
    const name = row.figures.length > 1 ? `${row.title}, ${figure}` : row.title
    const targets = row.targets.filter((target) => target.figure === figure)
    if (row.peers.length === 1) lines.push(`| ${name} (${row.unit}) | ${short(value)} | | | | | |`)
    const compared = [
      ...targets,
      ...others.filter((peer) => !targets.some((t) => t.peer === peer)).map((peer) => ({ figure, peer })),
    ]
    for (const target of compared) {
      const ratio = ratioOf(result, target)
      if (ratio === undefined && !('atLeast' in target || 'atMost' in target)) continue
      const peerFigure =
        target.peer === ''
          ? undefined
          : medians.get(target.peer)?.[('peerFigure' in target && target.peerFigure) || figure]
      const bound = targetOf(target)
      const met = ratio === undefined || bound === '' ? '' : isMet(target, ratio) ? 'met' : '**missed**'
      const kind = 'added' in target ? ' added' : ''
      const peer = target.peer === '' ? 'itself' : target.peer
      lines.push(
        `| ${name} (${row.unit}) | ${short(value)} | ${peer} | ${peerFigure === undefined ? (target.peer === '' ? '' : 'not here') : short(peerFigure)} | ${ratio === undefined ? '' : `${short(ratio)} ×${kind}`} | ${bound} | ${met} |`,
      )
    }
  }
  return lines
}

const targetOf = ({ atLeast, atMost }: Target): string =>
  atLeast !== undefined ? `≥ ${atLeast}` : atMost !== undefined ? `≤ ${atMost}` : ''

/** All figures, as JSON. */
export const json = (report: Report): string =>
  `${JSON.stringify(
    {
      ...report,
      results: report.results.map(({ row, medians }) => ({
        id: row.id,
        title: row.title,
        unit: row.unit,
        medians: Object.fromEntries(medians),
        ratios: row.targets.map((target) => ({ ...target, ratio: ratioOf({ row, medians }, target) })),
      })),
    },
    null,
    2,
  )}\n`
