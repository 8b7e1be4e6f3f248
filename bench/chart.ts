import type { Curve } from './growth.js'
import type { Report, Result } from './report.js'
import { short } from './report.js'

/** Draws an SVG chart: bars for each row and peer, lines for the growth. It is readable on light and dark pages. */
const WIDTH = 860
const LABEL = 190
const BAR = 15
const OURS = '#2f7ed8'
const COLORS: Readonly<Record<string, string>> = { 'farpool local': OURS, 'farpool remote': '#7cb5ec' }
const OTHERS = '#9aa5b1'
const TEXT = '#77808a'

export function chart(report: Report): string {
  let y = 34
  const parts: string[] = [text(16, 20, 'farpool beside its peers; longer is better', 'font-weight="bold"')]
  for (const result of report.results) {
    if (result.row.section || !Object.values(result.row.figures)[0]?.endsWith('/s')) continue
    const [drawn, height] = bars(result, y)
    parts.push(drawn)
    y += height
  }
  if (report.growth.length > 0) {
    parts.push(text(16, y + 14, 'Cost of one more item: flat is good (both axes logarithmic)', 'font-weight="bold"'))
    y += 28
    for (const [at, curve] of report.growth.entries())
      parts.push(line(curve, 16 + (at % 2) * 420, y + Math.floor(at / 2) * 190))
    y += Math.ceil(report.growth.length / 2) * 190
  }
  const style = `font-family="system-ui, sans-serif" font-size="12" fill="${TEXT}"`
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${y + 12}" viewBox="0 0 ${WIDTH} ${y + 12}" ${style}>\n<title>farpool beside its peers</title>\n${parts.join('\n')}\n</svg>\n`
}

function bars({ row, medians }: Result, top: number): [string, number] {
  const [[figure, unit] = ['', '']] = Object.entries(row.figures)
  const all = [...medians].flatMap(([peer, { [figure]: value }]) => (value === undefined ? [] : [{ peer, value }]))
  const most = Math.max(...all.map(({ value }) => value))
  const parts = [text(16, top + 12, `${row.title} (${unit})`)]
  let y = top + 18
  for (const { peer, value } of all) {
    const width = Math.max(1, (value / most) * (WIDTH - LABEL - 90))
    parts.push(
      text(LABEL - 8, y + 11, peer, 'text-anchor="end"'),
      `<rect x="${LABEL}" y="${y}" width="${width.toFixed(1)}" height="${BAR - 3}" fill="${COLORS[peer] ?? OTHERS}"/>`,
      text(LABEL + width + 6, y + 11, short(value)),
    )
    y += BAR
  }
  return [parts.join('\n'), y - top + 10]
}

function line({ title, unit, points }: Curve, left: number, top: number): string {
  const width = 400
  const height = 110
  const xs = points.map(({ x }) => Math.log10(x))
  const ys = points.map(({ y }) => Math.log10(y))
  const middle = ys.reduce((sum, y) => sum + y, 0) / ys.length
  // The axis spans at least two powers of ten, so that a flat curve looks flat.
  const half = Math.max(1, ...ys.map((y) => Math.abs(y - middle)))
  const place = (at: number): [number, number] => {
    const span = (xs.at(-1) ?? 1) - (xs[0] ?? 0) || 1
    const x = left + 40 + (((xs[at] ?? 0) - (xs[0] ?? 0)) / span) * (width - 80)
    return [x, top + 30 + height / 2 - (((ys[at] ?? 0) - middle) / half) * (height / 2)]
  }
  const places = points.map((_, at) => place(at))
  const path = places.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(' ')
  return [
    text(left, top + 12, `${title} (${unit})`),
    `<rect x="${left + 8}" y="${top + 22}" width="${width - 16}" height="${height + 16}" fill="none" stroke="${OTHERS}" stroke-opacity="0.4"/>`,
    `<polyline points="${path}" fill="none" stroke="${OURS}" stroke-width="2"/>`,
    ...places.flatMap(([x, y], at) => [
      `<circle cx="${x.toFixed(1)}" cy="${y.toFixed(1)}" r="3" fill="${OURS}"/>`,
      text(x, y - 7, short(points[at]?.y ?? 0), 'text-anchor="middle"'),
      text(x, top + height + 52, points[at]?.label ?? '', 'text-anchor="middle"'),
    ]),
  ].join('\n')
}

const text = (x: number, y: number, value: string, more = ''): string =>
  `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${more}>${value.replace(/&/g, '&amp;').replace(/</g, '&lt;')}</text>`
